"""Latency of one action chunk: `two_way` against `none`, eager and compiled, and against LeRobot's diffusion policy.

Every policy has random weights, which cost the same as trained ones; images are 84 (small) or 96 (base) pixels, one
camera, a state of 4 and actions of 4, as in Meta-World. Cases of one batch size take turns.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
import typer
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.factory import get_policy_class, make_policy_config
from measuring import interleaved, median_ms, report
from torch import Tensor

CAMERA, STATE = "observation.images.corner2", "observation.state"


def policy(kind: str, size: int, **options: Any) -> Any:
    config = make_policy_config(
        kind,
        device="cuda" if torch.cuda.is_available() else "cpu",
        input_features={
            CAMERA: PolicyFeature(FeatureType.VISUAL, (3, size, size)),
            STATE: PolicyFeature(FeatureType.STATE, (4,)),
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (4,))},
        **options,
    )
    torch.manual_seed(0)
    made = get_policy_class(kind)(config).to(config.device).eval()
    made.reset()
    return made


def observation(rows: int, size: int) -> dict[str, Tensor]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return {
        CAMERA: torch.rand(rows, 3, size, size, device=device),
        STATE: torch.randn(rows, 4, device=device),
    }


def planning(made: Any, rows: int, size: int) -> Any:
    """A call that plans one chunk."""
    seen = observation(rows, size)
    if made.name == "dap":
        return lambda: made.predict_action_chunk(seen)

    def plan() -> None:  # diffusion keeps the last two observations in queues, and plans when its chunk is used up
        made.reset()
        made.select_action(seen)

    return plan


def main(
    batches: Annotated[str, typer.Option(help="Rows that share a call, separated by commas.")] = "1,10",
    repeats: int = 30,
    threads: Annotated[int, typer.Option(help="Threads of torch.")] = 1,
    flow_steps: Annotated[str, typer.Option(help="K, separated by commas.")] = "4,10",
    diffusion: Annotated[bool, typer.Option(help="Also LeRobot's diffusion policy (263 M parameters).")] = True,
    base: Annotated[bool, typer.Option(help="Also the base preset, one row.")] = True,
    results: Annotated[str, typer.Option(help="Name of the file of results.")] = "latency",
) -> None:
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    torch.set_grad_enabled(False)
    rows = []
    for batch in map(int, batches.split(",")):
        torch.compiler.reset()  # or the many cases reach the limit of shapes of one function, and run eager
        cases: dict[str, Any] = {}
        for preset, size in (("small", 84), ("base", 96)):
            if preset == "base" and not (base and batch == 1):
                continue
            for K in map(int, flow_steps.split(",")):
                for compiling in (False, True):
                    for arm in ("none", "two_way"):
                        made = policy(
                            "dap",
                            size,
                            preset=preset,
                            coupling=arm,
                            num_inference_steps=K,
                            compile_model=compiling,
                        )
                        how = "compiled" if compiling else "eager"
                        cases[f"{preset} {how} K={K} {arm}"] = planning(made, batch, size)
        seconds = interleaved(cases, repeats)
        ms = {name: median_ms(values) for name, values in seconds.items()}
        if diffusion and batch == 1:
            for label, options in (
                ("diffusion as shipped, 100 DDPM steps", {}),
                (
                    "diffusion as shipped, 10 DDIM steps",
                    {"noise_scheduler_type": "DDIM", "num_inference_steps": 10},
                ),
            ):
                made = policy("diffusion", 84, crop_ratio=1.0, pretrained_backbone_weights=None, **options)
                seconds |= interleaved({label: planning(made, 1, 84)}, repeats=3, warm=1)
                ms[label] = median_ms(seconds[label])
                del made
        for name, value in ms.items():
            row = {"batch": batch, "policy": name, "chunk ms": value}
            row["p99 ms"] = 1e3 * sorted(seconds[name])[max(0, int(0.99 * len(seconds[name])) - 1)]
            other = name.replace("two_way", "none")
            row["two_way / none"] = f"{value / ms[other]:.2f}x" if other != name else ""
            for label in (label for label in ms if label.startswith("diffusion")):
                row[label.rsplit(", ")[-1]] = f"{value / ms[label]:.4f}x"
            rows.append(row)
    columns = {name: "" for row in rows for name in row}
    report(results, "Latency of one action chunk", [{**columns, **row} for row in rows], threads=threads)


if __name__ == "__main__":
    typer.run(main)
