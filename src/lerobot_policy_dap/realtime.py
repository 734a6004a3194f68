"""Real-time chunking (Black et al. 2025, arXiv 2506.07339): a new chunk that continues the one under way.

The guidance itself is LeRobot's; here is what makes it fit a coupled flow of a few steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float
from lerobot.policies.rtc import RTCConfig, RTCProcessor
from torch import Tensor

from .flow import Guide


def executable(left_over: Tensor | None, most: int | None = None) -> Float[Tensor, "B k A"] | None:
    """What is left of a chunk `[k, A]` or `[B, k, A]`, `most` actions of it, or None where nothing is.

    LeRobot fills a short left-over up with rows of zeros, which nobody is going to execute.
    """
    if left_over is None:
        return None
    left_over = (left_over if left_over.ndim == 3 else left_over.unsqueeze(0))[:, :most]
    real = left_over.ne(0).any(dim=2).any(dim=0).nonzero()
    return left_over[:, : int(real[-1]) + 1] if len(real) else None


def guidance(
    config: RTCConfig | None, left_over: Float[Tensor, "B k A"], inference_delay: int, steps: int
) -> Guide:
    """Pulls a chunk's estimate towards the left-over: fully where it will be executed before the new chunk is there,
    fading out after that.

    Args:
        config: LeRobot's options; its defaults where there are none.
        left_over: normalised; row 0 is executed at the observation's time.
        inference_delay: control steps until the new chunk is there.
        steps: K of the flow. A guidance weight above K would step over its target in one of them.
    """
    config = config or RTCConfig()
    processor = RTCProcessor(replace(config, max_guidance_weight=min(config.max_guidance_weight, float(steps))))

    def guided(a_t: Tensor, t: float, velocity: Callable[[Tensor], Tensor]) -> Tensor:
        def constant(x: Tensor) -> Tensor:
            with torch.no_grad():  # the guidance differentiates the estimate for a fixed velocity
                return velocity(x)

        # It needs gradients, which inference mode would not give back.
        with torch.inference_mode(False):
            wanted = left_over.clone().expand(len(a_t), -1, -1)
            v: Tensor = processor.denoise_step(a_t, wanted, inference_delay, t, constant)
        return v

    return guided


def continued(
    chunk: Float[Tensor, "B H A"], left_over: Float[Tensor, "B k A"], inference_delay: int
) -> Float[Tensor, "B H A"]:
    """The chunk with what will be executed before it is there in its place: the guidance comes close to it only."""
    frozen = min(inference_delay, left_over.shape[1])
    kept = left_over[:, :frozen].to(chunk).expand(len(chunk), -1, -1)
    return torch.cat([kept, chunk[:, frozen:]], dim=1)
