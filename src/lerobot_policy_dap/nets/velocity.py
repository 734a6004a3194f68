"""A velocity network for small vectors and short chunks."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class VelocityMLP(nn.Module):
    """Residual MLP over the flattened flow sample, modulated (FiLM) by time, context and feedback.

    One modulation is computed for all blocks, each of which adds its own constants to it (PixArt-alpha's
    adaLN-single, arXiv 2310.00426): a third fewer operations than a modulation a block. The output is zero
    before training, so that the flow starts from "nothing moves".

    Args:
        shape: shape of one sample, `(H, A)` for chunks or `(S,)` for outcomes.
        context_dim: size D of the encoding.
        feedback_dim: number of elements of the other model's sample.
        hidden: width of the blocks.
        depth: number of blocks.
    """

    def __init__(
        self, shape: tuple[int, ...], context_dim: int, feedback_dim: int, hidden: int, depth: int
    ) -> None:
        super().__init__()
        size = math.prod(shape)
        self.embed = nn.Linear(size, hidden)
        self.time = nn.Sequential(TimeEmbedding(hidden), nn.Linear(hidden, hidden))
        self.context = nn.Linear(context_dim, hidden)
        self.feedback = nn.Linear(feedback_dim, hidden)
        self.null = nn.Parameter(torch.zeros(hidden))
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden, 2 * hidden))
        self.blocks = nn.ModuleList(_Block(hidden) for _ in range(depth))
        self.norm = nn.LayerNorm(hidden)
        self.out = nn.Linear(hidden, size)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self,
        x_t: Float[Tensor, "B *x"],
        t: Float[Tensor, "B"],
        context: Float[Tensor, "B D"],
        feedback: Float[Tensor, "B *y"] | None = None,
        present: Bool[Tensor, "B"] | None = None,
    ) -> Float[Tensor, "B *x"]:
        """See `flow.velocity.VelocityModel`."""
        condition = self.time(t) + self.context(context) + self._feedback(feedback, present)
        modulation = self.modulation(condition)
        h = self.embed(x_t.flatten(1))
        for block in self.blocks:
            h = block(h, modulation)
        velocity: Tensor = self.out(self.norm(h))
        return velocity.reshape(x_t.shape)

    def _feedback(self, feedback: Tensor | None, present: Tensor | None) -> Tensor:
        if feedback is None:
            return self.null
        seen: Tensor = self.feedback(feedback.flatten(1))
        return seen if present is None else torch.where(present.unsqueeze(-1), seen, self.null)


class TimeEmbedding(nn.Module):
    """Sines and cosines of flow time at `dim` / 2 periods from 4e-3 to 4, as in openpi."""

    def __init__(self, dim: int, shortest: float = 4e-3, longest: float = 4.0) -> None:
        super().__init__()
        periods = shortest * (longest / shortest) ** torch.linspace(0, 1, dim // 2)
        self.register_buffer("frequencies", 2 * math.pi / periods, persistent=False)
        self.frequencies: Tensor

    def forward(self, t: Float[Tensor, "B"]) -> Float[Tensor, "B dim"]:
        """The embedding of each time in [0, 1]."""
        angles = t.unsqueeze(-1) * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class _Block(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden, elementwise_affine=False)
        self.offset = nn.Parameter(torch.zeros(2 * hidden))
        self.inner = nn.Linear(hidden, hidden)
        self.outer = nn.Linear(hidden, hidden)

    def forward(self, h: Float[Tensor, "B hidden"], modulation: Float[Tensor, "B twice"]) -> Tensor:
        scale, shift = (modulation + self.offset).chunk(2, dim=-1)
        inner = nn.functional.silu(self.inner(self.norm(h) * (1 + scale) + shift))
        out: Tensor = h + self.outer(inner)
        return out
