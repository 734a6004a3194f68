"""A round does what its declaration says, once, whatever interrupts it."""

from dataclasses import replace
from operator import attrgetter
from pathlib import Path

import pytest
import rounds
from round_costs import Costs
from round_results import keep
from round_spec import read_round

from lerobot_policy_dap.bench.episodes import Episode, read_episodes, write_episodes
from lerobot_policy_dap.bench.plan import FIRST_SEED
from lerobot_policy_dap.checkpoints import checkpoint_folder
from lerobot_policy_dap.configuration_dap import DAPConfig
from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.files import read_json, sha256

HEAD = """
tasks = ["drawer-open"]
demos = 2
steps = 3
batch_size = 4
training_seeds = [0, 1]
factors = ["light_intensity"]
severities = [3]
episodes = 2
clean_episodes = 2
max_steps = 20
image_size = 48
"""
TINY = f"""{HEAD}
[policy]
image_size = 48
encoder_width = 8
latent_dim = 8
hidden_dim = 16
depth = 1

[play]
kinds = ["random"]
episodes = 2

[arms.none]
play = 0
[arms.feedback_off]
weights = "two_way"
coupling = "auxiliary"
[arms.two_way]
"""


def declared(tmp_path, text):
    path = tmp_path / "tiny.toml"
    path.write_text(text)
    return path


def test_the_example_can_be_read_and_its_cost_is_said_before_anything_runs(tmp_path):
    asked = read_round(Path(rounds.__file__).parent / "rounds" / "example.toml")
    said = rounds._to_do(asked, tmp_path, 2, {})
    trainings = 5 * 1 * 3
    assert f"{trainings} of {trainings} trainings to do" in said
    assert "none: 3 x 1500 steps" in said
    assert f"{6 * 3 * (50 + 50 + 4 * 2 * 50)} of" in said
    assert not any(tmp_path.iterdir())


def test_the_policy_that_is_shipped_is_the_one_that_was_measured():
    converged = read_round(Path(rounds.__file__).parent / "rounds" / "converged.toml")
    assert DAPConfig(coupling="none", **converged.policy) == DAPConfig()
    assert (DAPConfig().coupling, DAPConfig().image_light) == ("none", 0.5)


def test_an_arm_learns_from_the_episodes_that_it_asks_for(tmp_path):
    asked = read_round(declared(tmp_path, TINY))
    none, off, two_way = asked.arms
    assert none.policy == {}
    assert two_way.weights is None
    assert off.weights == "two_way"
    assert asked.train_flags(none)["dataset.episodes"] == "[0,1]"
    assert asked.train_flags(two_way)["dataset.episodes"] == "[0,1,2,3]"
    assert asked.train_flags(none)["policy.coupling"] == "none"
    assert asked.train_flags(none)["policy.latent_dim"] == "8"
    assert [arm.name for arm in asked.trained] == ["none", "two_way"]


@pytest.mark.parametrize("what", ["noise", "detour"])
def test_demonstrations_are_as_the_round_declares(tmp_path, what):
    plain = read_round(declared(tmp_path, TINY)).collection("drawer-open")
    asked = read_round(declared(tmp_path, f"{what} = 0.2\n" + TINY)).collection("drawer-open")
    assert getattr(plain, what) == 0
    assert asked == replace(plain, **{what: 0.2})


PEER = f"""{HEAD}
expert = true
main = "act"
[policy]
n_action_steps = 8
[play]
kinds = ["random"]
episodes = 2
[arms.none]
[arms.act]
type = "act"
steps = 2
batch_size = 3
pretrained_backbone_weights = "null"
chunk_size = 8
n_action_steps = 4
dim_model = 16
n_heads = 2
dim_feedforward = 16
n_encoder_layers = 1
n_vae_encoder_layers = 1
"""


def test_another_policy_of_lerobot_has_options_and_steps_of_its_own_and_imitates_no_play(tmp_path):
    asked = read_round(declared(tmp_path, PEER))
    none, act = asked.arms
    assert (asked.steps_of(none), asked.steps_of(act)) == (3, 2)
    flags = asked.train_flags(act)
    assert flags["policy.type"] == "act"
    assert flags["policy.n_action_steps"] == "4"
    assert flags["batch_size"] == 3
    assert "policy.coupling" not in flags
    assert flags["dataset.episodes"] == "[0,1]"
    assert asked.train_flags(none)["dataset.episodes"] == "[0,1,2,3]"
    # Two training seeds of two arms, clean, blind and shifted; and the expert once, which is not blinded.
    assert rounds._planned(asked) == 2 * 2 * (2 + 2 + 2) + (2 + 2)


LIKE = """
like = "tiny"
lent = ["none"]
training_seeds = [1]
main = "always"
[arms.always]
coupling = "two_way"
feedback_dropout = 0
"""


def like(tmp_path, text=LIKE):
    declared(tmp_path, TINY)
    path = tmp_path / "more.toml"
    path.write_text(text)
    return path


def test_a_round_like_another_has_its_data_and_options_and_the_arms_that_it_lends(tmp_path):
    more, tiny = read_round(like(tmp_path)), read_round(tmp_path / "tiny.toml")
    none, always = more.arms
    assert none == tiny.arms[0]
    own = {"name": "more", "main": "always", "training_seeds": (1,), "arms": more.arms}
    assert more == replace(tiny, **own, lender="tiny", lent=("none",))
    assert more.train_flags(none) == tiny.train_flags(tiny.arms[0])
    assert always.policy["feedback_dropout"] == 0


def test_a_round_like_one_that_is_like_another_borrows_what_that_one_has_of_its_own(tmp_path):
    again = (
        LIKE.replace('"tiny"', '"more"').replace('["none"]', '["always"]').replace("[arms.always]", "[arms.late]")
    )
    between, path = read_round(like(tmp_path)), tmp_path / "again.toml"
    path.write_text(again)
    asked = read_round(path)
    always, _ = asked.arms
    assert always == between.arms[1]
    own = {"name": "again", "arms": asked.arms, "lender": "more", "lent": ("always",)}
    assert asked == replace(between, **own)
    path.write_text(again.replace('["always"]', '["none"]'))
    with pytest.raises(UserError, match="the lent arm 'none' is none of more's own"):
        read_round(path)


def test_rounds_that_are_like_each_other_are_refused(tmp_path):
    path = like(tmp_path, LIKE.replace('"tiny"', '"more"'))
    with pytest.raises(UserError, match=r"more\.toml: more would be like itself"):
        read_round(path)
    path.write_text(LIKE)
    declared(tmp_path, LIKE.replace('"tiny"', '"more"'))
    with pytest.raises(UserError, match=r"tiny\.toml: more would be like itself"):
        read_round(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LIKE.replace('like = "tiny"', ""), "no round says .like."),
        (LIKE.replace('"tiny"', '"large"'), "large.toml is missing"),
        (LIKE.replace('["none"]', '["nothing"]'), "the lent arm 'nothing' is none of tiny"),
        (LIKE + "[arms.none]", "the lent arm 'none' is declared here too"),
        (LIKE.replace('["none"]', '["feedback_off"]'), "there is no arm 'two_way'"),
        ("demos = 3\n" + LIKE, "'demos' is as in tiny, and cannot be given"),
        (LIKE + "[policy]\nhorizon = 8", "'policy' is as in tiny, and cannot be given"),
    ],
)
def test_what_would_make_lent_episodes_others_is_refused(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read_round(like(tmp_path, text))


def test_a_lent_arm_is_not_trained_and_its_round_comes_first(tmp_path):
    asked = read_round(like(tmp_path))
    results = tmp_path / "results" / "more"
    with pytest.raises(UserError, match=r"tiny lacks episodes of none.* seed 1; run the round tiny first"):
        rounds._run(asked, tmp_path / "work", results, 1, "cpu", "the command")
    lent = [
        Episode(
            "none", "drawer-open-v3", cell.shift, cell.severity, FIRST_SEED + i, True, 20, 0.0, 1.0, "a", "one", 1
        )
        for cell in rounds._grid(asked, rounds._named(asked, 1)[:1], "drawer-open", "cpu").cells()
        for i in range(2)
    ]
    write_episodes(results.with_name("tiny") / "episodes.parquet", lent)
    kept = rounds._kept(asked, results)
    assert rounds._missing(asked, kept) == {("drawer-open", 1): ["always"]}


@pytest.mark.slow
@pytest.mark.xdist_group("rounds")
def test_other_policies_and_the_expert_stand_in_one_round(tmp_path, capsys):
    asked = read_round(declared(tmp_path, PEER.replace("[0, 1]", "[0]")))
    work, results = tmp_path / "work", tmp_path / "results"
    rounds._run(asked, work, results, 1, "cpu", "the command")
    episodes = read_episodes(results / "episodes.parquet")
    assert {e.policy for e in episodes} == {"none", "act", "expert"}
    assert not any(e.shift == "blind" for e in episodes if e.policy == "expert")
    text = (results / "table.md").read_text()
    assert "## act minus none" in text
    assert "minus expert" not in text
    assert "scripted expert" in (results / "report.html").read_text()
    assert {policy for policy, _, _ in rounds._complete(asked, episodes)} == {"none", "act", "expert"}

    capsys.readouterr()  # what another machine lacks of a seed is done there, and no more
    write_episodes(results / "episodes.parquet", [e for e in episodes if e.policy != "act"])
    rounds._run(asked, tmp_path / "elsewhere", results, 1, "cpu", "the command")
    said = capsys.readouterr().out
    assert "trained act" in said
    assert "trained none" not in said
    key = attrgetter("policy", "shift", "severity", "seed", "success", "steps")
    assert sorted(map(key, read_episodes(results / "episodes.parquet"))) == sorted(map(key, episodes))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tasks = [", "is no TOML"),
        ("colour = 3\n" + TINY, "unknown entry 'colour'"),
        (TINY.replace("demos = 2\n", ""), "missing 1 required positional argument: 'demos'"),
        (TINY.replace("drawer-open", "drawer-opens"), "did you mean drawer-open"),
        (TINY.replace("[arms.two_way]", "[arms.mine]"), "no arm 'two_way'"),
        (TINY.replace("[arms.none]", "[arms.plain]"), "arm plain has no coupling"),
        (TINY.replace("[policy]", "[policy]\ncoupling = 'none'"), "policy. has a coupling"),
        (TINY.replace("play = 0", "play = 3"), "arm none asks for play = 3; the round has 2"),
        (TINY.replace('weights = "two_way"', 'weights = "feedback_off"'), "which is not trained"),
        (TINY.replace('kinds = ["random"]', 'kinds = ["dance"]'), "unknown kind of play 'dance'"),
    ],
)
def test_a_bad_declaration_is_one_line(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read_round(declared(tmp_path, text))


def test_costs_are_those_of_the_round_once_it_has_some(tmp_path):
    costs = Costs(tmp_path / "costs.jsonl")
    shipped = costs.training("two_way", 1000)
    costs.trained("two_way", 100, 50.0)
    costs.evaluated(20, 5.0, 2)
    with (tmp_path / "costs.jsonl").open("a") as file:
        file.write('{"coup')  # killed while it wrote
    again = Costs(tmp_path / "costs.jsonl")
    assert again.training("two_way", 1000) == 500.0 != shipped
    assert again.training("none", 1000) == Costs(tmp_path / "other").training("none", 1000)
    assert again.episodes_per_second() == 2.0


def test_a_round_is_not_gone_on_with_under_other_software(tmp_path, monkeypatch):
    """Before anything is trained, and what is kept stays as it is."""
    asked = read_round(declared(tmp_path, TINY))
    results = tmp_path / "results"
    kept = [
        Episode(policy, "drawer-open-v3", shift, severity, FIRST_SEED + i, True, 9, 1.0, 1.0, "c", versions, 0)
        for policy, versions in (("none", "dap 0.0.9"), ("two_way", "dap 0.0.9"), ("feedback_off", "dap 0.0.8"))
        for shift, severity in (("none", 0), ("blind", 0), ("light_intensity", 3))
        for i in range(2)
    ]
    keep(results, asked, kept[:12], "the command")
    before = {file.name: file.read_bytes() for file in results.iterdir()}
    with pytest.raises(UserError, match="different software"):
        keep(results, asked, kept, "the command")
    monkeypatch.setattr(rounds, "each", lambda *arguments: pytest.fail("trains"))
    with pytest.raises(UserError, match=r"holds episodes of dap 0\.0\.9, and here is dap"):
        rounds._run(asked, tmp_path / "work", results, 1, "cpu", "the command")
    assert {file.name: file.read_bytes() for file in results.iterdir()} == before


def test_a_task_is_evaluated_and_kept_as_soon_as_it_is_trained(tmp_path, monkeypatch):
    """A machine that is lost loses the trainings of a task, not of a seed."""
    asked = read_round(declared(tmp_path, TINY.replace('["drawer-open"]', '["hammer", "drawer-open"]')))
    steps = []

    def trained(work, left, workers):
        for training in left:
            steps.append(("train", *training[1:]))
            yield training, 1.0

    monkeypatch.setattr(rounds, "collect", lambda *arguments: None)
    monkeypatch.setattr(rounds, "each", trained)
    monkeypatch.setattr(
        rounds, "_evaluate", lambda asked, work, task, seed, *_: steps.append(("bench", task, seed))
    )
    monkeypatch.setattr(rounds, "keep", lambda *arguments: steps.append("keep"))
    monkeypatch.setattr(rounds, "keep_report", lambda *arguments: steps.append("report"))
    rounds._run(asked, tmp_path / "work", tmp_path / "results", 1, "cpu", "the command")
    expected = []
    for seed in (0, 1):
        for task in ("hammer", "drawer-open"):
            expected += [("train", task, seed)] * 2 + [("bench", task, seed), "keep"]
        expected.append("report")
    assert steps == expected


def test_a_round_keeps_all_workers_busy_over_tasks_and_training_seeds(tmp_path, monkeypatch):
    asked = read_round(declared(tmp_path, TINY.replace('["drawer-open"]', '["hammer", "drawer-open"]')))
    batches = []
    monkeypatch.setattr(rounds, "collect", lambda *arguments: None)
    monkeypatch.setattr(rounds, "each", lambda work, left, workers: batches.append((left, workers)) or iter(()))
    monkeypatch.setattr(rounds, "_evaluate", lambda *arguments: None)
    monkeypatch.setattr(rounds, "keep_report", lambda *arguments: None)
    rounds._run(asked, tmp_path / "work", tmp_path / "results", 3, "cpu", "the command")
    asked_for = [(task, seed) for seed in (0, 1) for task in ("hammer", "hammer", "drawer-open", "drawer-open")]
    assert [([(task, seed) for _, task, seed in left], workers) for left, workers in batches] == [(asked_for, 3)]


@pytest.mark.parametrize(
    ("before", "after", "arm"),
    [
        ("steps = 3", "steps = 4", "none"),
        ("latent_dim = 8", "latent_dim = 16", "none"),
        ('coupling = "auxiliary"', 'coupling = "shuffled"', "feedback_off"),
        ("[arms.two_way]", "[arms.two_way]\nalign = false", "feedback_off"),  # whose weights they are
    ],
)
def test_a_checkpoint_of_an_arm_that_was_declared_otherwise_is_not_taken_for_its_own(tmp_path, before, after, arm):
    work, every = tmp_path / "work", ["none", "feedback_off", "two_way"]
    rounds._claim(read_round(declared(tmp_path, TINY)), work, "drawer-open", 0, every)
    other = read_round(declared(tmp_path, TINY.replace(before, after)))
    with pytest.raises(UserError, match=f"drawer-open-{arm}-0 is of an arm {arm} that was declared otherwise"):
        rounds._claim(other, work, "drawer-open", 0, every)
    more = read_round(declared(tmp_path, TINY.replace("\nepisodes = 2", "\nepisodes = 3", 1)))
    rounds._claim(more, work, "drawer-open", 0, every)  # more of the same


@pytest.mark.slow
@pytest.mark.xdist_group("rounds")
def test_an_interrupted_round_ends_as_it_would_have(tmp_path, monkeypatch, capsys):
    asked = read_round(declared(tmp_path, TINY))
    work, results = tmp_path / "work", tmp_path / "results"
    real = rounds.keep

    def interrupted(*arguments):
        real(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(rounds, "keep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rounds._run(asked, work, results, 1, "cpu", "the command")
    first = read_episodes(results / "episodes.parquet")
    assert {e.training_seed for e in first} == {0}
    assert {e.policy for e in first} == {"none", "feedback_off", "two_way"}  # every arm, before the next seed
    monkeypatch.setattr(rounds, "keep", real)
    rounds._run(asked, work, results, 1, "cpu", "the command")
    assert capsys.readouterr().out.count("trained ") == 4

    episodes = read_episodes(results / "episodes.parquet")
    assert set(first) <= set(episodes)
    keys = {(e.policy, e.training_seed, e.shift, e.severity, e.seed) for e in episodes}
    assert len(keys) == len(episodes) == 3 * 2 * (2 + 2 + 2)
    task = "drawer-open"
    off, on = (checkpoint_folder(work / "train" / f"{task}-{arm}-0") for arm in ("feedback_off", "two_way"))
    assert sha256(off / "model.safetensors") == sha256(on / "model.safetensors")
    assert (read_json(off / "config.json")["coupling"], read_json(on / "config.json")["coupling"]) == (
        "auxiliary",
        "two_way",
    )
    said = rounds._to_do(asked, work, 1, {})
    assert "0 of 4 trainings" in said
    assert "0 of 36 episodes" in said

    capsys.readouterr()
    elsewhere = tmp_path / "elsewhere"  # what was kept is not run again on a machine that has nothing else of it
    rounds._run(asked, elsewhere, results, 1, "cpu", "the command")
    assert "trained" not in capsys.readouterr().out
    assert not elsewhere.exists()
    assert read_episodes(results / "episodes.parquet") == episodes
    half = rounds._complete(asked, [e for e in episodes if e.training_seed == 0 or e.seed % 2])
    assert list(half) == [(arm, "drawer-open", 0) for arm in ("none", "feedback_off", "two_way")]
    for name in ("episodes.parquet", "table.md", "figure.svg", "report.html"):
        assert str(tmp_path).encode() not in (results / name).read_bytes()
