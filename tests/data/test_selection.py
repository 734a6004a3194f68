"""Episodes for the dynamics alone are added to a step's demonstrations, and change nothing of these."""

from types import SimpleNamespace

import numpy as np
import pytest

from lerobot_policy_dap import DAPConfig
from lerobot_policy_dap.errors import UserError
from lerobot_policy_dap.train.selection import order_of, select

TASKS = [["lift"], ["lift"], ["lift"], ["play"], ["play"], ["lift", "play"]]
LENGTHS = [20, 30, 25, 40, 10, 15]
META = SimpleNamespace(total_episodes=6, episodes={"tasks": TASKS})
ENDS = np.cumsum(LENGTHS)
SOURCE = SimpleNamespace(starts=ENDS - LENGTHS, ends=ENDS)


def config(episodes=None, eval_split=0.0, batch_size=8, policy=None, **options):
    return SimpleNamespace(
        dataset=SimpleNamespace(episodes=episodes, eval_split=eval_split),
        batch_size=batch_size,
        seed=1,
        policy=policy or DAPConfig(coupling="auxiliary", **options),
    )


def steps(asked, n=30, start=0, processes=1, rank=0, before=None):
    order = order_of(select(META, asked), SOURCE, asked, processes, rank, start, before)
    return [order.next().tolist() for _ in range(n)]


def test_an_episode_is_for_the_dynamics_when_all_its_tasks_are():
    assert select(META, config()) == ([], [0, 1, 2, 5], [3, 4])
    assert select(META, config(dynamics_only_tasks=())) == ([], [0, 1, 2, 3, 4, 5], [])
    assert select(META, config(policy=SimpleNamespace())) == ([], [0, 1, 2, 3, 4, 5], [])


def test_a_selection_of_episodes_selects_play_too():
    assert select(META, config([0, 1, 4])) == ([], [0, 1], [4])


def test_play_is_never_held_out():
    assert select(META, config([0, 1, 2, 3, 4], eval_split=0.3)) == ([2], [0, 1], [3, 4])


def test_the_last_of_each_task_are_held_out_as_in_lerobot():
    """Recorded task by task, the last of all would be the whole of one task."""
    tasks = [[task] for task in ["open"] * 4 + ["close"] * 3]
    meta = SimpleNamespace(total_episodes=7, episodes={"tasks": tasks})
    assert select(meta, config(eval_split=0.3)) == ([2, 3, 6], [0, 1, 4, 5], [])
    assert select(meta, config([6, 0, 4, 1], eval_split=0.5)) == ([1, 4], [6, 0], [])
    with pytest.raises(UserError, match=r"eval_split=0.9 leaves no episode"):
        select(meta, config(eval_split=0.9))


def test_play_rows_come_behind_the_same_demonstrations():
    alone, both = steps(config([0, 1, 2])), steps(config([0, 1, 2, 3, 4]))
    play = set(range(75, 125))
    for step, (without, mixed) in enumerate(zip(alone, both, strict=True)):
        assert mixed[: len(without)] == without, step
        assert set(mixed[len(without) :]) <= play
    assert {i for row in both for i in row} >= play
    assert sum(map(len, both)) > 1.8 * sum(map(len, alone))


def test_the_ratio_decides_how_many_and_an_arm_without_dynamics_takes_none(caplog):
    assert [len(row) for row in steps(config(dynamics_only_ratio=0.5), 3)] == [12] * 3
    assert "play" not in caplog.text
    assert [len(row) for row in steps(config(dynamics_only_ratio=0), 3)] == [8] * 3
    assert "policy.coupling is auxiliary, policy.dynamics_only_ratio 0\n" in caplog.text
    none = config(policy=DAPConfig(coupling="none"))
    assert steps(none) == steps(config([0, 1, 2, 5]))
    assert "2 episodes of play, which teach a dynamics alone, are left out: policy.coupling is none" in caplog.text


def test_the_order_is_a_function_of_the_step():
    whole = steps(config())
    assert steps(config(), 30 - 17, start=17) == whole[17:]


def test_several_processes_see_what_one_would():
    whole = steps(config(batch_size=8), 3)
    parts = [steps(config(batch_size=4), 3, processes=2, rank=rank) for rank in (0, 1)]
    for one, *two in zip(whole, *parts, strict=True):
        assert sorted(one) == sorted(i for part in two for i in part)


def test_the_order_goes_on_where_other_processes_with_another_batch_left_it():
    """Of 75 demonstrated frames 64 are behind 4 steps of 8 on two processes, whatever goes on with them."""
    alone = [0, 1, 2]
    whole = steps(config(alone, batch_size=16), 5)
    rest = steps(config(alone, batch_size=4), 3, start=4, before=(8, 2))
    assert [i for step in rest for i in step] == whole[4]
    assert len(whole[4]) == 11


def test_nothing_to_imitate_is_said():
    with pytest.raises(UserError, match=r"no episode is left to imitate.*\(play\)"):
        select(META, config([3, 4]))
    with pytest.raises(UserError, match="names episode 9; the dataset has 6"):
        select(META, config([9]))
