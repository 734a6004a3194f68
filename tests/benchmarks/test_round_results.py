"""A round's table, figures and report say what its episodes say."""

from dataclasses import replace
from xml.etree import ElementTree

import round_figure
import round_play_figure
import round_results
from round_spec import read_round
from test_rounds import TINY, declared

from lerobot_policy_dap.bench import means as bench_means
from lerobot_policy_dap.bench.episodes import Episode, read_episodes, write_episodes

SVG = "{http://www.w3.org/2000/svg}"


def none_fails_and_two_way_succeeds_under_shift():
    """Two training seeds of each, twelve episodes a cell; clean both succeed, and blind both fail."""
    return [
        Episode(arm, "drawer-open-v3", shift, severity, seed, won, 20, 0.0, 1.0, f"{arm}{run}", "one", run)
        for arm, shifted in (("none", False), ("two_way", True))
        for run in (0, 1)
        for shift, severity, won in (("none", 0, True), ("blind", 0, False), ("light_intensity", 3, shifted))
        for seed in range(12)
    ]


def test_the_figure_draws_what_the_episodes_say(tmp_path):
    asked = read_round(declared(tmp_path, TINY))
    svg = ElementTree.fromstring(
        round_results.figure(
            round_results.find(asked, none_fails_and_two_way_succeeds_under_shift(), "the command")
        )
    )
    spots = {
        kind: [float(g[-1].get("cx")) for g in svg.iter(f"{SVG}g") if g.get("class") == kind and len(g) == 2]
        for kind in ("clean", "shifted", "gain")
    }
    (zero, whole), (_, most) = round_figure.RATES, round_figure.GAINS
    assert spots == {"clean": [whole, whole], "shifted": [zero, whole], "gain": [most]}
    names = [text.text for text in svg.iter(f"{SVG}text") if "name" in text.get("class", "")]
    assert names == ["none", "two_way"]


PLAYED = TINY.replace("play = 0", "play = 0\n[arms.one]\ncoupling = 'two_way'\nplay = 1")


def test_success_is_drawn_against_the_play_that_an_arm_or_its_weights_have_learned_from(tmp_path):
    asked = read_round(declared(tmp_path, PLAYED))
    assert {arm.name: asked.play_of(arm) for arm in asked.arms} == {
        "none": 0, "one": 1, "feedback_off": 2, "two_way": 2,
    }  # fmt: skip
    episodes = none_fails_and_two_way_succeeds_under_shift()
    episodes += [replace(e, policy="one") for e in episodes if e.policy == "none"]
    round_results.keep(tmp_path, asked, episodes, "the command")
    svg = ElementTree.parse(tmp_path / "play.svg")
    lines = [g for g in svg.iter(f"{SVG}g") if "line" in g.get("class", "")]
    heights = [(g.get("data-coupling"), [float(spot.get("cy")) for spot in g.iter(f"{SVG}circle")]) for g in lines]
    none, whole = float(round_play_figure.BOTTOM), float(round_play_figure.TOP)
    assert heights == [
        ("none", [whole]),
        ("two_way", [whole, whole]),
        ("none", [none]),
        ("two_way", [none, whole]),
    ]
    (spot,), (first, second) = ([float(spot.get("cx")) for spot in g.iter(f"{SVG}circle")] for g in lines[:2])
    assert spot < first < second


def test_a_round_has_figures_only_of_what_it_varies(tmp_path):
    asked, episodes = read_round(declared(tmp_path, TINY)), none_fails_and_two_way_succeeds_under_shift()
    round_results.keep(tmp_path, asked, episodes, "the command")
    assert {path.name for path in tmp_path.glob("*.svg")} == {"figure.svg"}
    clean = [e for e in episodes if e.shift != "light_intensity"]
    round_results.keep(tmp_path / "clean", replace(asked, factors=(), severities=()), clean, "the command")
    assert {path.name for path in (tmp_path / "clean").iterdir()} == {"episodes.parquet", "table.md"}


def test_the_table_says_what_the_episodes_say(tmp_path):
    asked = read_round(declared(tmp_path, TINY))
    episodes = none_fails_and_two_way_succeeds_under_shift()
    text = round_results.table(round_results.find(asked, episodes, "the command"))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line]
    by_arm = {row[0]: row for row in rows if row[0] in ("none", "two_way")}
    assert by_arm["none"][1] == "2"
    assert by_arm["none"][2].startswith("100 [")
    assert by_arm["none"][3].startswith("0.0 [")
    assert by_arm["none"][4].startswith("100.0 [")
    assert by_arm["none"][5].startswith("0 [")
    assert by_arm["two_way"][4].startswith("0.0 [")
    under = {row[0]: row for row in rows if row[0] in ("all factors", "clean", "light intensity")}
    assert under["all factors"][1].startswith("+100.0 [")
    assert under["all factors"][4] == "yes"
    assert under["clean"][1].startswith("+0.0 [")
    assert under["clean"][4] == ""
    assert "## two_way minus none" in text
    assert "`the command`" in text
    assert "one training seed" not in text
    once = [episode for episode in episodes if episode.training_seed == 0]
    assert "one training seed" in round_results.table(round_results.find(asked, once, "the command"))
    assert "One training seed: " in round_results.figure(round_results.find(asked, once, "the command"))
    unlike = once + [e for e in episodes if e.policy == "none" and e.training_seed != 0]
    assert "1 to 2 training seeds an arm (" in round_results.figure(
        round_results.find(asked, unlike, "the command")
    )


def test_the_table_names_the_arms_that_were_trained_otherwise(tmp_path):
    text = TINY.replace("[arms.two_way]", "[arms.two_way]\nsteps = 6\ndemos = 1")
    asked = read_round(declared(tmp_path, text))
    said = round_results.table(round_results.find(asked, none_fails_and_two_way_succeeds_under_shift(), ""))
    assert "Training steps: 3 (feedback_off, two_way: 6). " in said  # one acts with the other's weights
    assert "Demonstrations: 2 (feedback_off, two_way: 1). " in said


def test_the_main_arm_is_never_the_subtrahend_wherever_it_is_declared(tmp_path):
    asked = read_round(declared(tmp_path, 'main = "none"' + TINY))
    found = round_results.find(asked, none_fails_and_two_way_succeeds_under_shift(), "the command")
    text = round_results.table(found)
    assert "## none minus two_way" in text
    assert "| all factors | -100.0 [" in text
    assert [m["estimate"] for m in found.beside["two_way"] if m["shift"] == bench_means.ALL] == [-1.0]


def test_the_main_arm_beside_several_others_is_several_chances_to_find_something(tmp_path):
    """One of four arms differs by six episodes of twelve: p is 0.031 alone, and four times that among the four."""
    asked = read_round(declared(tmp_path, TINY + "".join(f"[arms.arm{i}]\ncoupling = 'none'\n" for i in range(3))))
    every = none_fails_and_two_way_succeeds_under_shift()
    two = [e for e in every if e.policy == "two_way" and e.training_seed == 0]
    worse = [replace(e, policy="none", success=e.success and (e.shift == "none" or e.seed % 2)) for e in two]
    like = [replace(e, policy=f"arm{i}") for e in two for i in range(3)]

    def over_all(episodes):
        found = round_results.find(asked, episodes, "the command").beside["none"]
        return next(m for m in found if m["shift"] == bench_means.ALL)

    alone, among_four = over_all(two + worse), over_all(two + worse + like)
    assert alone["p_holm"] == alone["p"] == among_four["p"] == 2 * 0.5**6
    assert among_four["p_holm"] == 4 * among_four["p"]
    assert alone["low"] == among_four["low"] > 0
    assert (alone["established"], among_four["established"]) == (True, False)


def test_arms_are_compared_on_the_tasks_that_all_of_them_have(tmp_path):
    asked = read_round(declared(tmp_path, TINY))
    episodes = none_fails_and_two_way_succeeds_under_shift()
    ahead = [replace(e, task=task) for task in ("hammer-v3", "push-v3") for e in episodes if e.policy == "two_way"]
    assert round_results.comparable(episodes + ahead) == episodes
    round_results.keep(tmp_path, asked, episodes + ahead, "the command")
    assert len(read_episodes(tmp_path / "episodes.parquet")) == len(episodes + ahead)
    assert "Tasks: drawer-open." in (tmp_path / "table.md").read_text()


def test_a_training_seed_counts_when_it_has_been_on_every_task(tmp_path):
    asked = read_round(declared(tmp_path, TINY))
    episodes = none_fails_and_two_way_succeeds_under_shift()
    everywhere = episodes + [replace(e, task="hammer-v3") for e in episodes]
    half = [replace(e, training_seed=2) for e in episodes if e.training_seed == 0]
    assert round_results.comparable(everywhere + half) == everywhere
    round_results.keep(tmp_path, asked, everywhere + half, "the command")
    assert len(read_episodes(tmp_path / "episodes.parquet")) == len(everywhere + half)
    assert f"{len(everywhere)} episodes so far" in (tmp_path / "table.md").read_text()
    assert round_results.comparable([]) == []


def test_an_arm_that_joins_late_waits_until_it_has_been_on_the_tasks_of_the_others():
    episodes = none_fails_and_two_way_succeeds_under_shift()
    three = [replace(e, task=task) for task in ("hammer-v3", "push-v3", "sweep-v3") for e in episodes]
    late = [replace(e, policy="auxiliary") for e in three if e.policy == "none" and e.task == "push-v3"]
    assert round_results.comparable(three + late) == three


def test_of_arms_without_a_task_in_common_only_the_episodes_are_kept(tmp_path):
    asked = read_round(declared(tmp_path, TINY))
    episodes = [
        replace(e, task="hammer-v3") if e.policy == "none" else e
        for e in none_fails_and_two_way_succeeds_under_shift()
    ]
    round_results.keep(tmp_path, asked, episodes, "the command")
    assert [path.name for path in tmp_path.glob("*.*") if path.suffix != ".toml"] == ["episodes.parquet"]


def test_lent_episodes_count_and_stay_with_the_round_that_lends_them(tmp_path):
    asked = replace(read_round(declared(tmp_path, TINY)), lender="lender", lent=("none",))
    folder, episodes = tmp_path / "mine", none_fails_and_two_way_succeeds_under_shift()
    lent = [e for e in episodes if e.policy == "none"]
    more = [replace(e, training_seed=2) for e in lent] + [replace(e, task="hammer-v3") for e in lent]
    write_episodes(tmp_path / "lender" / "episodes.parquet", episodes + more)  # it has a two_way of its own
    assert round_results.kept_episodes(folder, asked) == lent
    mine = [replace(e, success=False) for e in episodes if e.policy == "two_way"]
    round_results.keep(folder, asked, lent + mine, "the command")
    assert read_episodes(folder / "episodes.parquet") == mine
    assert round_results.kept_episodes(folder, asked) == lent + mine
    assert "## two_way minus none" in (folder / "table.md").read_text()


def test_what_the_declaration_notes_stands_where_the_results_are_read(tmp_path):
    asked = read_round(declared(tmp_path, 'notes = ["Seed 1 of none came from a GPU."]' + TINY))
    episodes = none_fails_and_two_way_succeeds_under_shift()
    round_results.keep(tmp_path, asked, episodes, "the command")
    round_results.keep_report(tmp_path, asked, episodes, "the command")
    for name in ("table.md", "report.html"):
        assert "Seed 1 of none came from a GPU." in (tmp_path / name).read_text()
