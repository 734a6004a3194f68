"""A velocity network for the `base` preset: one token for each action of a chunk."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from .velocity import Modulated, VelocityMLP, gaussian_slope

HEAD_DIM = 64
"""Width of an attention head."""


def velocity_network(
    kind: str,
    own: tuple[int, ...],
    other: tuple[int, ...],
    context_dim: int,
    hidden: int,
    depth: int,
    timed_feedback: bool = False,
) -> VelocityMLP | VelocityTransformer:
    """An `mlp` or `transformer` over samples of shape `own` that is fed the other model's, of shape `other`."""
    if kind == "mlp":
        return VelocityMLP(own, context_dim, math.prod(other), hidden, depth, timed_feedback)
    return VelocityTransformer(own, context_dim, other, hidden, depth, hidden // HEAD_DIM, timed_feedback)


class VelocityTransformer(Modulated):
    """Transformer over the tokens of the flow sample and of the feedback, modulated by time and context.

    A chunk `[H, A]` is H tokens, an outcome `[N, W]` is N; the velocity is read from the flow sample's tokens. So
    every action sees the predicted outcome, and the predicted outcome every action of the estimated chunk.
    Blocks are those of DiT with one modulation for all of them (arXiv 2212.09748, 2310.00426).

    Args:
        shape: shape of one sample, `(H, A)` for chunks or `(N, W)` for outcomes.
        context_dim: size D of the encoding.
        feedback_shape: shape of the other model's sample.
        hidden: width of the tokens.
        depth: number of blocks.
        heads: attention heads; they divide `hidden`.
        timed_feedback: whether `condition` is told at which flow time the feedback was estimated.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        context_dim: int,
        feedback_shape: tuple[int, ...],
        hidden: int,
        depth: int,
        heads: int,
        timed_feedback: bool = False,
    ) -> None:
        super().__init__(context_dim, hidden, 6 * hidden, timed_feedback)
        length, width = _tokens(shape)
        seen, seen_width = _tokens(feedback_shape)
        self.length = length
        self.feedback_shape = (seen, seen_width)
        self.embed = nn.Linear(width, hidden)
        self.feedback = nn.Linear(seen_width, hidden)
        self.null = nn.Parameter(torch.zeros(seen, hidden))
        self.place = nn.Parameter(0.02 * torch.randn(length + seen, hidden))
        self.blocks = nn.ModuleList(TransformerBlock(hidden, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(hidden)
        self.out = nn.Linear(hidden, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self,
        x_t: Float[Tensor, "B *x"],
        t: Float[Tensor, "B"] | float,
        condition: Float[Tensor, "B C"],
        feedback: Float[Tensor, "B *y"] | None = None,
        present: Bool[Tensor, "B"] | None = None,
    ) -> Float[Tensor, "B *x"]:
        """See `flow.velocity.VelocityModel`."""
        x = x_t.reshape(len(x_t), self.length, -1)
        h = torch.cat([self.embed(x), self._seen(feedback, present, len(x_t))], dim=1) + self.place
        modulation = condition.unsqueeze(1)
        for block in self.blocks:
            h = block(h, modulation)
        slope = gaussian_slope(t if isinstance(t, float) else t.reshape(-1, 1, 1))
        velocity: Tensor = slope * x + self.out(self.norm(h[:, : self.length]))
        return velocity.reshape(x_t.shape)

    def _seen(self, feedback: Tensor | None, present: Tensor | None, rows: int) -> Tensor:
        if feedback is None:
            return self.null.expand(rows, -1, -1)
        seen: Tensor = self.feedback(feedback.reshape(rows, *self.feedback_shape))
        return seen if present is None else torch.where(present.reshape(-1, 1, 1), seen, self.null)


class TransformerBlock(nn.Module):
    """Attention and a feed-forward layer, each scaled, shifted and gated by the modulation.

    Args:
        hidden: width of the tokens.
        heads: attention heads.
    """

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.offset = nn.Parameter(torch.zeros(6 * hidden))
        self.before_attention = nn.LayerNorm(hidden, elementwise_affine=False)
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.join = nn.Linear(hidden, hidden)
        self.before_forward = nn.LayerNorm(hidden, elementwise_affine=False)
        self.inner = nn.Linear(hidden, 4 * hidden)
        self.outer = nn.Linear(4 * hidden, hidden)

    def forward(self, h: Float[Tensor, "B N hidden"], modulation: Float[Tensor, "B 1 six"]) -> Tensor:
        """The tokens after the block."""
        scale, shift, gate, scale_2, shift_2, gate_2 = (modulation + self.offset).chunk(6, dim=-1)
        attended = self._attention(self.before_attention(h) * (1 + scale) + shift)
        h = h + (1 + gate) * attended
        inner = nn.functional.gelu(self.inner(self.before_forward(h) * (1 + scale_2) + shift_2))
        out: Tensor = h + (1 + gate_2) * self.outer(inner)
        return out

    def _attention(self, h: Tensor) -> Tensor:
        q, k, v = self.qkv(h).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        joined: Tensor = self.join(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return joined


def _tokens(shape: tuple[int, ...]) -> tuple[int, int]:
    """How many tokens a sample of this shape is, and how wide each."""
    return (1, shape[0]) if len(shape) == 1 else (shape[0], math.prod(shape[1:]))
