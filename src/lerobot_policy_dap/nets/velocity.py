"""A velocity network for small vectors and short chunks."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class Modulated(nn.Module):
    """What the velocity networks share: all that time and context do to them is one modulation of their layers.

    Args:
        context_dim: size D of the encoding.
        hidden: width of the network.
        size: number of values C of the modulation.
        timed_feedback: whether `condition` is told at which flow time the feedback was estimated.
    """

    def __init__(self, context_dim: int, hidden: int, size: int, timed_feedback: bool) -> None:
        super().__init__()
        self.modulation = Modulation(context_dim, hidden, size, timed_feedback)

    def condition(
        self,
        t: Float[Tensor, "*n"],
        context: Float[Tensor, "B D"],
        feedback_time: Float[Tensor, "*n"] | None = None,
    ) -> Float[Tensor, "*m C"]:
        """See `flow.velocity.VelocityModel`."""
        modulation: Tensor = self.modulation(t, context, feedback_time)
        return modulation


class VelocityMLP(Modulated):
    """Residual MLP over the flattened flow sample and feedback, modulated (FiLM) by time and context.

    One modulation is computed for all blocks, each of which adds its own constants to it (PixArt-alpha's
    adaLN-single, arXiv 2310.00426). Feedback joins the flow sample at the input, so that the modulations of all
    K steps of a generation are one product (`condition`), whatever the coupling.

    The network learns what is left of the velocity after `gaussian_slope`: before training, the flow is that of
    standard normal data.

    Args:
        shape: shape of one sample, `(H, A)` for chunks or `(S,)` for outcomes.
        context_dim: size D of the encoding.
        feedback_dim: number of elements of the other model's sample.
        hidden: width of the blocks.
        depth: number of blocks.
        timed_feedback: whether `condition` is told at which flow time the feedback was estimated.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        context_dim: int,
        feedback_dim: int,
        hidden: int,
        depth: int,
        timed_feedback: bool = False,
    ) -> None:
        super().__init__(context_dim, hidden, 2 * hidden, timed_feedback)
        size = math.prod(shape)
        self.null = nn.Parameter(torch.zeros(feedback_dim))
        self.embed = nn.Linear(size + feedback_dim, hidden)
        with torch.no_grad():  # a feedback that has nothing to say yet must not drown the flow sample
            self.embed.weight[:, size:] = 0
            self.embed.weight[:, :size] *= math.sqrt(1 + feedback_dim / size)
        self.blocks = nn.ModuleList(MLPBlock(hidden) for _ in range(depth))
        self.norm = nn.LayerNorm(hidden)
        self.out = nn.Linear(hidden, size)
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
        x = x_t.flatten(1)
        h = self.embed(torch.cat([x, self._seen(feedback, present, len(x))], dim=-1))
        for block in self.blocks:
            h = block(h, condition)
        slope = gaussian_slope(t if isinstance(t, float) else t.unsqueeze(-1))
        velocity: Tensor = slope * x + self.out(self.norm(h))
        return velocity.reshape(x_t.shape)

    def _seen(self, feedback: Tensor | None, present: Tensor | None, rows: int) -> Tensor:
        if feedback is None:
            return self.null.expand(rows, -1)
        seen = feedback.flatten(1)
        return seen if present is None else torch.where(present.unsqueeze(-1), seen, self.null)


def gaussian_slope(t: Tensor | float) -> Tensor | float:
    """c(t) of the velocity c(t)·x_t that is exact for standard normal data.

    E[ε - x | x_t] = c(t)·x_t with c(t) = (2t - 1) / (t² + (1 - t)²), from the covariance of ε - x with
    x_t = t·ε + (1 - t)·x. Actions and outcomes are standardised, so this is the best guess that knows neither
    observation nor correlations: the role of the skip connection in Karras et al. (arXiv 2206.00364, section 5).
    """
    return (2 * t - 1) / (t * t + (1 - t) * (1 - t))


class Modulation(nn.Module):
    """What scales and shifts a network's layers, from flow time and context.

    Args:
        context_dim: size D of the encoding.
        hidden: width at which time and context are added.
        size: number of values C.
        timed_feedback: whether the flow time of the feedback counts too.
    """

    def __init__(self, context_dim: int, hidden: int, size: int, timed_feedback: bool = False) -> None:
        super().__init__()
        self.time = nn.Sequential(TimeEmbedding(hidden), nn.Linear(hidden, hidden))
        self.context = nn.Linear(context_dim, hidden)
        self.feedback_time = (
            nn.Sequential(TimeEmbedding(hidden), nn.Linear(hidden, hidden)) if timed_feedback else None
        )
        self.out = nn.Sequential(nn.SiLU(), nn.Linear(hidden, size))

    def forward(
        self,
        t: Float[Tensor, "*n"],
        context: Float[Tensor, "B D"],
        feedback_time: Float[Tensor, "*n"] | None = None,
    ) -> Float[Tensor, "*m C"]:
        """`[B, C]` for times `[B]`, `[K, B, C]` for times `[K, 1]`."""
        h = self.time(t) + self.context(context)
        if self.feedback_time is not None:
            assert feedback_time is not None
            h = h + self.feedback_time(feedback_time)
        out: Tensor = self.out(h)
        return out


class TimeEmbedding(nn.Module):
    """Sines and cosines of flow time at `dim` / 2 periods from 4e-3 to 4, as in openpi."""

    def __init__(self, dim: int, shortest: float = 4e-3, longest: float = 4.0) -> None:
        super().__init__()
        periods = shortest * (longest / shortest) ** torch.linspace(0, 1, dim // 2)
        self.register_buffer("frequencies", 2 * math.pi / periods, persistent=False)
        self.frequencies: Tensor

    def forward(self, t: Float[Tensor, "*n"]) -> Float[Tensor, "*n dim"]:
        """The embedding of each time in [0, 1]."""
        angles = t.unsqueeze(-1) * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class MLPBlock(nn.Module):
    """Two linear layers around a skip connection, scaled and shifted by the modulation after normalisation."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden, elementwise_affine=False)
        self.offset = nn.Parameter(torch.zeros(2 * hidden))
        self.inner = nn.Linear(hidden, hidden)
        self.outer = nn.Linear(hidden, hidden)

    def forward(self, h: Float[Tensor, "B hidden"], modulation: Float[Tensor, "B twice"]) -> Tensor:
        """The features after the block."""
        scale, shift = (modulation + self.offset).chunk(2, dim=-1)
        inner = nn.functional.silu(self.inner(self.norm(h) * (1 + scale) + shift))
        out: Tensor = h + self.outer(inner)
        return out
