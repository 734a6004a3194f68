"""Choosing one of several chunks that were sampled for the same observation."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .sampler import Sample


class Choice(StrEnum):
    """Which of the sampled chunks is acted on."""

    FIRST = "first"
    """The first: any of them, since they are drawn alike. The control of the other two."""
    MEDOID = "medoid"
    """The one nearest to all others, whatever it leads to: the control of `outcome`."""
    OUTCOME = "outcome"
    """The one whose expected outcome is nearest to an outcome that was demonstrated."""


def medoid(chunks: Float[Tensor, "N B H A"]) -> Int[Tensor, "B"]:
    """The place, in each row, of the chunk with the least sum of Euclidean distances to the others."""
    flat = chunks.flatten(2).transpose(0, 1)  # [B, N, HA]
    return torch.cdist(flat, flat).sum(dim=-1).argmin(dim=-1)


def nearest(outcomes: Float[Tensor, "N B S"], known: Float[Tensor, "M S"]) -> Int[Tensor, "B"]:
    """The place, in each row, of the outcome whose nearest neighbour among those known is nearest (Euclidean)."""
    distance = torch.cdist(outcomes.flatten(0, 1), known).min(dim=-1).values
    return distance.reshape(outcomes.shape[:2]).argmin(dim=0)


def chosen(done: Sample, count: int, choice: Choice, known: Callable[[], Float[Tensor, "M S"]]) -> Sample:
    """One of `count` samples for each row.

    Args:
        done: of `count` times B rows, those of one candidate together; with `Choice.OUTCOME`, its outcomes are those
            that are expected of each chunk.
        known: gives the demonstrated outcomes; called where they matter.
    """
    action, estimates = done.action.unflatten(0, (count, -1)), done.estimates.unflatten(1, (count, -1))
    outcome = None if done.outcome is None else done.outcome.unflatten(0, (count, -1))
    if choice is Choice.FIRST:
        places = torch.zeros(action.shape[1], dtype=torch.int64, device=action.device)
    elif choice is Choice.MEDOID:
        places = medoid(action)
    else:
        assert outcome is not None
        places = nearest(outcome.flatten(2), known())
    return Sample(
        take(action, places),
        None if outcome is None else take(outcome, places),
        torch.stack([take(step, places) for step in estimates]),
    )


def take(candidates: Float[Tensor, "N B *x"], places: Int[Tensor, "B"]) -> Float[Tensor, "B *x"]:
    """The candidate at its place in each row."""
    return candidates[places, torch.arange(len(places), device=places.device)]
