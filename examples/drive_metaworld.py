"""Drives a simulated Meta-World arm through a policy server, and writes what happened as one HTML page.

    dap serve outputs/train/drawer                      # in one terminal
    python examples/drive_metaworld.py --out run.html   # in another, or on another machine

The arm is a `worlds.World`; a real robot's program would look the same, with its own cameras and motors in `Arm`.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from lerobot_policy_dap.bench.video import data_uri, encode_video
from lerobot_policy_dap.runtime.client import PolicyClient
from lerobot_policy_dap.runtime.player import ChunkPlayer
from lerobot_policy_dap.worlds.rendering import RenderSettings
from lerobot_policy_dap.worlds.tasks import description
from lerobot_policy_dap.worlds.world import ACTION_NAMES, World

STYLE = """
body { font: 15px system-ui; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
header { display: flex; gap: 2rem }
video { width: 320px }
svg { width: 100%; height: 90px; background: #f7f9fb }
h2 { font-size: 14px; margin: .8rem 0 .2rem }
th { text-align: left; padding-right: 1rem }
"""


class Arm:
    """The robot's side: what it sees under the names the server asks for, and how it moves."""

    def __init__(self, task: str, seed: int, features: dict[str, Any]) -> None:
        images = {name: feature for name, feature in features.items() if feature["kind"] == "image"}
        self.cameras = {name: name.rpartition(".")[2] for name in images}
        self.vectors = [name for name, feature in features.items() if feature["kind"] == "vector"]
        size = next(iter(images.values()))["height"] if images else 84
        self.world = World(task, list(self.cameras.values()) or ("corner2",), RenderSettings(size, size))
        self.world.reset(seed)
        self.success = False

    def observe(self) -> dict[str, Any]:
        """Camera frames `[H, W, 3]` and the state `[4]`."""
        frames = {name: self.world.render(camera) for name, camera in self.cameras.items()}
        return frames | dict.fromkeys(self.vectors, self.world.state) | {"task": description(self.world.task)}

    def move(self, action: np.ndarray) -> None:
        """One control step."""
        self.success = self.world.step(action).success or self.success

    @staticmethod
    def stand_still(last: np.ndarray) -> np.ndarray:
        """No motion, the gripper as it was: Meta-World's actions are differences, so repeating one would go on."""
        return np.array([0, 0, 0, last[3]], np.float32)


def drive(arm: Arm, player: ChunkPlayer, steps: int, rate: float) -> tuple[list[dict[str, Any]], list[np.ndarray]]:
    """Steps the arm at `rate` until it succeeded or `steps` are over; what was done, and the film."""
    log, film = [], []
    for _ in range(steps):
        began = time.monotonic()
        command = player.act(arm.observe())
        arm.move(command.action)
        film.append(arm.world.render(settings=RenderSettings(256, 256)))
        late = time.monotonic() - began - 1 / rate
        log.append(
            {
                "action": command.action.tolist(),
                "held": command.held,
                "chunk": command.chunk_id,
                "place": command.place,
                "late_ms": 1000 * max(0.0, late),
                "trouble": str(player.trouble or ""),
            }
        )
        if arm.success:
            break
        time.sleep(max(0.0, -late))
    return log, film


def page(log: list[dict[str, Any]], film: list[np.ndarray], rate: float, facts: dict[str, Any]) -> str:
    """The recording: the film, and under it the commands, with a cursor that follows the film."""
    width, height = 8 * len(log), 90
    plots = []
    for dimension, name in enumerate(ACTION_NAMES):
        points = " ".join(
            f"{8 * i + 4},{height / 2 * (1 - row['action'][dimension] / 1.2):.1f}" for i, row in enumerate(log)
        )
        marks = "".join(
            f'<rect x="{8 * i}" width="8" height="{height}" fill="#f4b6b6"/>'
            if row["held"]
            else f'<line x1="{8 * i}" x2="{8 * i}" y2="{height}" stroke="#c9d4e0"/>'
            for i, row in enumerate(log)
            if row["held"] or (i and row["chunk"] != log[i - 1]["chunk"])
        )
        plots.append(
            f'<h2>{name}</h2><svg viewBox="0 0 {width} {height}" preserveAspectRatio="none">{marks}'
            f'<polyline points="{points}" fill="none" stroke="#1f5fa8" stroke-width="2" '
            f'vector-effect="non-scaling-stroke"/><line class="now" y2="{height}" stroke="#d04a02"/></svg>'
        )
    mime, content = encode_video(np.stack(film), rate)
    rows = "".join(f"<tr><th>{key}</th><td>{value}</td></tr>" for key, value in facts.items())
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Driven over the network</title>
<style>{STYLE}</style>
<h1>A simulated arm, driven over the network</h1>
<header><video src="{data_uri(mime, content)}" controls muted autoplay loop></video><table>{rows}</table></header>
<p>Blue: commands, from -1.2 to 1.2. Grey lines: a new chunk. Red: held, for want of one.</p>{"".join(plots)}
<script>const film=document.querySelector("video");const log={json.dumps(log)};
(function follow(){{const x=8*log.length*film.currentTime/(film.duration||1);
document.querySelectorAll(".now").forEach(l=>{{l.setAttribute("x1",x);l.setAttribute("x2",x)}});requestAnimationFrame(follow)}})()
</script></html>"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--server", default="ws://127.0.0.1:8000")
    options.add_argument("--task", default="drawer-open")
    options.add_argument("--seed", type=int, default=10_000, help="of the episode; demonstrations start at 0")
    options.add_argument("--steps", type=int, default=200)
    options.add_argument("--rate", type=float, default=10.0, help="control steps a second of real time")
    options.add_argument("--out", type=Path, default=Path("drive.html"))
    asked = options.parse_args()

    with PolicyClient(asked.server, api_key=os.environ.get("DAP_API_KEY"), deadline=10) as client:
        metadata = client.get_server_metadata()
        arm = Arm(asked.task, asked.seed, metadata["observation"])
        player = ChunkPlayer(client, 1 / asked.rate, hold=arm.stand_still)
        try:
            log, film = drive(arm, player, asked.steps, asked.rate)
        finally:
            player.close()  # its thread would keep the program alive
    facts = {
        "task": asked.task,
        "seed": asked.seed,
        "success": "yes" if arm.success else "no",
        "policy": f"{metadata['policy']} {metadata['weights'][:12]}",
        "control steps": f"{len(log)} at {asked.rate:g} Hz",
        "chunks": len({row["chunk"] for row in log if row["chunk"]}),
        "steps held": player.held_steps,
        "steps that took too long": sum(row["late_ms"] > 0 for row in log),
        "reconnections": client.reconnections,
    }
    asked.out.write_text(page(log, film, asked.rate, facts), encoding="utf-8")
    print("\n".join(f"{key}: {value}" for key, value in facts.items()))
    print(f"recording: {asked.out}")


if __name__ == "__main__":
    main()
