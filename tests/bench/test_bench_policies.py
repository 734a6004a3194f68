"""Who acts: checkpoints of any type, training replicates, and the scripted expert as the control."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints_support import SIZE, make_checkpoint, outcomes, small_plan
from safetensors.torch import load_file, save_file

from lerobot_policy_dap.bench.checkpoints import read_policies
from lerobot_policy_dap.bench.plan import Policy
from lerobot_policy_dap.bench.policies import Planner, environment_for
from lerobot_policy_dap.bench.rollout import roll_out
from lerobot_policy_dap.bench.run import give_up, run
from lerobot_policy_dap.bench.store import open_results
from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.worlds.rendering import RenderSettings
from lerobot_policy_dap.worlds.world import World

slow = [pytest.mark.slow, pytest.mark.xdist_group("bench")]


class Watched(World):
    """Counts its frames."""

    frames = 0

    def render(self, *arguments: Any, **options: Any) -> Any:
        self.frames += 1
        return super().render(*arguments, **options)


def planner(folder: Path) -> Planner:
    return Planner(folder, environment_for(folder, "drawer-open", 12))


@pytest.mark.slow
def test_a_blind_policy_is_shown_black_images_and_its_own_state(tmp_path: Path) -> None:
    made = planner(make_checkpoint(tmp_path / "dap", "dap"))
    world = Watched("drawer-open", settings=RenderSettings(SIZE, SIZE))
    world.reset(10_000)
    shown = made.observe([world], [True], blind=True)
    assert world.frames == 0
    assert not shown["observation.images.corner2"].any()
    np.testing.assert_array_equal(shown["observation.state"][0], world.state)
    seen = made.observe([world], [True])
    assert seen["observation.images.corner2"].shape == shown["observation.images.corner2"].shape
    assert seen["observation.images.corner2"].any()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "options", "frames"),
    [
        ("act", {}, 3),  # one a plan of four steps
        ("act", {"temporal_ensemble_coeff": 0.01, "n_action_steps": 1}, 12),
        ("diffusion", {}, 6),  # the two before each plan: steps 0, 3, 4, 7, 8, 11
        ("diffusion", {"n_obs_steps": 1}, 3),
        ("dap", {"n_obs_steps": 2}, 6),
        ("vqbet", {}, 12),  # looks back over five frames and plans every fifth step
        ("vqbet", {"n_obs_steps": 1}, 3),
    ],
)
def test_policies_that_look_back_see_each_frame_they_look_at_and_no_other(
    tmp_path: Path, kind: str, options: dict[str, Any], frames: int
) -> None:
    made = planner(make_checkpoint(tmp_path / kind, kind, **options))
    world = Watched("drawer-open", settings=RenderSettings(SIZE, SIZE))
    [frugal], _ = roll_out(made, [world], [10_000], 12, blind=False)
    assert world.frames == frames
    made._will_be_read = lambda: True  # type: ignore[method-assign]
    [lavish], _ = roll_out(made, [world], [10_000], 12, blind=False)
    np.testing.assert_array_equal(frugal.actions, lavish.actions)


@pytest.mark.slow
@pytest.mark.xdist_group("bench")
def test_the_expert_is_a_policy_like_any_other(tmp_path: Path) -> None:
    """It solves the task, and in a purely visual shift it does the same, step for step."""
    plan = small_plan(Policy("expert", None), shifts=["distractors", "light_intensity"], max_steps=300, batch=3)
    give_up(run(plan, tmp_path, 1, lambda done, total: None))
    results = open_results(tmp_path)
    assert {e.shift for e in results.episodes} == {"none", "distractors", "light_intensity"}  # blind means nothing
    assert all(e.success for e in results.episodes)
    assert {e.checkpoint for e in results.episodes} == {"expert"}
    rows = {(e.shift, e.seed): (e.steps, e.episode_return) for e in results.episodes}
    for shift in ("distractors", "light_intensity"):
        for seed in range(10_000, 10_003):
            assert rows[shift, seed] == rows["none", seed]


@pytest.mark.slow
@pytest.mark.xdist_group("bench")
def test_replicates_are_told_apart(tmp_path: Path) -> None:
    folders = [make_checkpoint(tmp_path / str(seed), seed=seed) for seed in range(2)]
    plan = small_plan(
        *read_policies([f"p={folder}" for folder in folders]), shifts=[], episodes=1, clean_episodes=2
    )
    give_up(run(plan, tmp_path / "out", 1, lambda done, total: None))
    episodes = open_results(tmp_path / "out").episodes
    assert [(e.policy, e.training_seed) for e in episodes if e.shift == "none"] == [("p", 0)] * 2 + [("p", 1)] * 2
    returns = [o[8] for o in outcomes(episodes) if o[3] == "none"]
    assert returns[:2] != returns[2:]


def names(*texts: str) -> list[tuple[str, int, Path | None]]:
    return [(p.name, p.training_seed, p.path) for p in read_policies(texts)]


def test_what_the_command_line_names() -> None:
    a, b, c = (Path(name).absolute() for name in "abc")
    assert names("p=a", "q=b") == [("p", 0, a), ("q", 0, b)]
    assert names("p=a", "p=b", "p=c") == [("p", 0, a), ("p", 1, b), ("p", 2, c)]
    assert names("p=a", "p@0=b", "p=c") == [("p", 1, a), ("p", 0, b), ("p", 2, c)]
    assert names("p@7=a", "expert") == [("p", 7, a), ("expert", 0, None)]
    assert names("runs/mine/checkpoints/000300/pretrained_model")[0][0] == "mine"


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["p@x=a"], "whole number"),
        (["p="], "no checkpoint"),
        (["p=someone/model"], "the Hub is switched off"),
    ],
)
def test_what_it_cannot_name(texts: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_policies(texts)


def test_an_id_on_the_hub_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: list[str] = []

    def snapshot(name: str, **options: Any) -> str:
        asked.append(name)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert names("p=someone/model") == [("p", 0, tmp_path)]
    assert names(f"p={tmp_path}") == [("p", 0, tmp_path)]  # a folder is a folder
    assert asked == ["someone/model"]


@pytest.mark.parametrize(
    ("policies", "message"),
    [
        ([Policy("p", Path("a")), Policy("p", Path("b"))], "two policies are p@0"),
        ([Policy("a b", Path("a"))], "letters, digits"),
        ([Policy("expert", Path("a"))], "kept for the scripted expert"),
        ([], "names nothing"),
    ],
)
def test_policies_that_cannot_be_told_apart(policies: list[Policy], message: str) -> None:
    with pytest.raises(UserError, match=message):
        small_plan(*policies)


@pytest.mark.slow
def test_actions_that_are_no_numbers_are_no_failure_of_an_episode(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "dap")
    weights = load_file(folder / "model.safetensors")
    save_file(
        {key: x * torch.nan if x.is_floating_point() else x for key, x in weights.items()},
        folder / "model.safetensors",
    )
    with pytest.raises(
        UserError, match=r"p@0 gives actions that are not finite: drawer-open-v3, seed 10000, step 0"
    ):
        run(small_plan(Policy("p", folder)), tmp_path / "out", 1, lambda done, total: None)


def test_a_policy_of_another_robot_is_told_what_is_here(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "dap")
    config = json.loads((folder / "config.json").read_text())
    config["input_features"]["observation.images.front"] = config["input_features"].pop(
        "observation.images.corner2"
    )
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        UserError, match=r"looks at observation.images.front; Meta-World's cameras are .*`dap probe`"
    ):
        environment_for(folder, "drawer-open", 12)
