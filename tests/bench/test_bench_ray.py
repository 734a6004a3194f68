"""Over a Ray cluster of two nodes: the same episodes, and a death there is survived as it is here."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from checkpoints_support import outcomes, small_plan

from lerobot_policy_dap.bench import run as running
from lerobot_policy_dap.bench.cluster import surviving_on_ray
from lerobot_policy_dap.bench.plan import Policy
from lerobot_policy_dap.bench.run import Unit, evaluate, run
from lerobot_policy_dap.bench.store import Results, open_results
from lerobot_policy_dap.errors import UserError

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("bench")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of two nodes with a CPU each."""
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", str(Path(__file__).parent))  # where the nodes find `OnNode`
        made = cluster_utils.Cluster(
            initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
        )
        made.add_node(num_cpus=1)
        yield made.address
        made.shutdown()


class OnNode:
    """`evaluate`, and a note of the node that ran it; the last unit kills its worker."""

    def __init__(self, notes: Path) -> None:
        self.notes = notes

    def __call__(self, unit: Unit) -> Any:
        import ray

        node = ray.get_runtime_context().get_node_id()
        with (self.notes / f"{unit.key.file} {node}").open("a") as note:
            note.write("tried\n")
        if unit.key.shift == "distractors" and unit.key.first_seed == 10_002:
            os.kill(os.getpid(), signal.SIGKILL)
        return evaluate(unit)


def test_two_nodes_give_the_same_episodes_and_a_deadly_unit_is_given_up(
    cluster: str, checkpoint: Path, reference: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    monkeypatch.setattr(running, "evaluate", OnNode(notes))
    [lost] = run(
        small_plan(Policy("p", checkpoint)), tmp_path / "out", None, lambda done, total: None, ray=cluster
    )
    assert (lost.shift, list(lost.seeds)) == ("distractors", [10_002])
    finished = open_results(tmp_path / "out")
    expected = [o for o in outcomes(reference.episodes) if o[3:6] != ("distractors", 2, 10_002)]
    assert outcomes(finished.episodes) == expected
    tried = [(*note.name.split(), len(note.read_text().splitlines())) for note in notes.iterdir()]
    assert len({node for _, node, _ in tried}) == 2
    deadly = [times for unit, _, times in tried if "distractors-2-10002" in unit]
    assert len(tried) - len(deadly) == sum(times for *_, times in tried) - sum(deadly) == 6  # once each
    # Ray may hand a unit to a worker that is dying of it already: such a try leaves no note.
    assert 2 <= sum(deadly) <= 3


def test_no_cluster_and_no_ray_are_one_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"--ray needs Ray, which is not installed: pip install"):
        list(surviving_on_ray(str, [1], "127.0.0.1:1"))
    monkeypatch.undo()
    pytest.importorskip("ray")
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1"):
        with pytest.raises(UserError, match=f"no Ray cluster answers at {address} "):
            list(surviving_on_ray(str, [1], address))
