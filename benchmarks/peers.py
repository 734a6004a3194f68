"""LeRobot's own policies and DAP's arms on the same demonstrations: clean, and under visual shift.

Each policy is trained from scratch with `dap train` (which trains any LeRobot policy) on the first 25 demonstrations
of a task, one training seed, final checkpoint; then `dap bench run` evaluates all of them on the same held-out
seeds, with the scripted expert as control. Everything resumes where it was: start it again after an interruption.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from measuring import demonstrations, run, train_flags

SHARED = {"n_action_steps": 8}
POLICIES: dict[str, tuple[int, int, dict[str, object]]] = {
    # name: (steps, batch, flags of the policy)
    "dap-none": (2000, 64, {"type": "dap", "coupling": "none", **SHARED}),
    "dap-two_way": (2000, 64, {"type": "dap", "coupling": "two_way", **SHARED}),
    # 12 M parameters; the shipped learning rates of 1e-5 are for fine-tuning a pretrained backbone.
    "act": (
        1500,
        16,
        {
            "type": "act", "chunk_size": 16, "dim_model": 128, "n_heads": 4, "dim_feedforward": 512,
            "n_encoder_layers": 2, "n_vae_encoder_layers": 1, "pretrained_backbone_weights": "null",
            "optimizer_lr": 3e-4, "optimizer_lr_backbone": 3e-4, **SHARED,
        },
    ),
    "diffusion": (
        3000,
        32,
        {
            "type": "diffusion", "horizon": 16, "use_group_norm": "true", "down_dims": "[64,128,256]",
            "noise_scheduler_type": "DDIM", "num_train_timesteps": 50, "num_inference_steps": 10,
            "pretrained_backbone_weights": "null", **SHARED,
        },
    ),
    # Each sample is five frames; the first steps train its action codes and look at no image.
    "vqbet": (
        3000,
        8,
        {
            "type": "vqbet", "n_vqvae_training_steps": 600, "gpt_n_layer": 4, "gpt_hidden_dim": 256,
            "gpt_input_dim": 256, "gpt_output_dim": 256, "use_group_norm": "true",
            "pretrained_backbone_weights": "null",
        },
    ),
}  # fmt: skip


def main(
    tasks: Annotated[str, typer.Option(help="Separated by commas.")] = "drawer-open,hammer,coffee-push",
    policies: Annotated[str, typer.Option(help="Separated by commas.")] = ",".join(POLICIES),
    data: Annotated[Path, typer.Option(help="Folder for datasets, checkpoints and rows.")] = Path("outputs/peers"),
    factors: str = "light_intensity,light_direction,table_color,object_color,distractors,camera_pose",
    severities: str = "3",
    demos: int = 25,
    episodes: int = 50,
    scale: Annotated[float, typer.Option(help="Multiplies the training steps, to try the script.")] = 1.0,
    evaluate: Annotated[bool, typer.Option(help="Also evaluate; otherwise only train.")] = True,
) -> None:
    """Train all, evaluate all."""
    names = policies.split(",")
    for task in tasks.split(","):
        dataset = demonstrations(task, 50, data)
        trained = {}
        for name in names:
            steps, batch, options = POLICIES[name]
            steps = int(steps * scale)
            trained[name] = data / "train" / f"{task}-{name}-{demos}-{steps}"
            flags = {f"policy.{key}": value for key, value in options.items()}
            episodes_flag = {"dataset.episodes": json.dumps(list(range(demos))).replace(" ", "")}
            print(f"training {name} on {task}", flush=True)
            run(
                "dap", "train", "--frames-dir", data / "frames",
                *train_flags(
                    dataset, trained[name], steps, batch_size=batch, save_freq=500, **episodes_flag, **flags
                ),
            )  # fmt: skip
        if evaluate:
            print(f"evaluating on {task}", flush=True)
            asked = [text for name in names for text in ("--policy", f"{name}={trained[name]}")]
            run(
                "dap", "bench", "run", "--out", data / "bench", *asked, "--policy", "expert", "--task", task,
                "--factor", factors, "--severity", severities, "--episodes", episodes, "--max-steps", 300,
            )  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
