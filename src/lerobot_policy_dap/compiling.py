"""The generation of chunks as one compiled graph, or as it was where it cannot be compiled."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from .flow import Sample

logger = logging.getLogger(__name__)

Generate = Callable[[dict[str, Tensor], Tensor, Tensor], Sample]
"""From an observation `[B, …]` and the noise of both flows, of one or several candidates of each row."""


def compiled(generate: Generate, device: torch.device) -> Generate:
    """`generate`, compiled by torch at its first call for each power of two of rows (`in_few_sizes`).

    The first compilation takes half a minute or more; torch keeps it on disk, so that later processes of the
    same machine start within seconds. On a GPU the graph is a CUDA graph. Where compiling fails (no C++ compiler,
    an operation that cannot be captured), this is said once in the log and `generate` itself goes on.
    """
    options: dict[str, Any] = (
        {"mode": "reduce-overhead"}
        if device.type == "cuda"
        # Without the wrapper in C++, calling the kernels of such small networks costs more than running them.
        else {"options": {"cpp_wrapper": True}}
    )
    fast: Generate | None = torch.compile(generate, dynamic=False, **options)

    def call(observation: dict[str, Tensor], action_noise: Tensor, outcome_noise: Tensor) -> Sample:
        nonlocal fast
        if fast is not None:
            try:
                result = fast(observation, action_noise, outcome_noise)
                # A CUDA graph writes its next results where it wrote these.
                return tree_map_only(torch.Tensor, torch.clone, result) if device.type == "cuda" else result
            except Exception as error:
                result = generate(observation, action_noise, outcome_noise)  # its own errors are the caller's
                fast = None
                reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                logger.warning("cannot compile the generation of chunks (%s); it runs uncompiled", reason)
                return result
        return generate(observation, action_noise, outcome_noise)

    return in_few_sizes(call)


def in_few_sizes(generate: Generate) -> Generate:
    """`generate`, called for a power of two of rows: the last one is repeated, and what comes of it cut off.

    A graph is compiled for each size that is asked for, and a server, or an evaluation whose episodes end one by one,
    asks for all. (Whose feedback a row of `shuffled` sees depends on the size.)
    """

    def call(observation: dict[str, Tensor], action_noise: Tensor, outcome_noise: Tensor) -> Sample:
        rows = len(next(iter(observation.values())))
        size = 1 << (rows - 1).bit_length()
        if size == rows:
            return generate(observation, action_noise, outcome_noise)

        def filled(x: Tensor) -> Tensor:
            return _taken(x, rows, [*range(rows), *[rows - 1] * (size - rows)])

        def cut(x: Tensor, dim: int = 0) -> Tensor:
            return _taken(x, size, [*range(rows)], dim)

        seen = {key: filled(value) for key, value in observation.items()}
        done = generate(seen, filled(action_noise), filled(outcome_noise))
        outcome = None if done.outcome is None else cut(done.outcome)
        return Sample(cut(done.action), outcome, cut(done.estimates, 1))

    return call


def _taken(x: Tensor, rows: int, index: list[int], dim: int = 0) -> Tensor:
    """Some of the `rows` rows of every candidate, which lie one candidate after the other along `dim`."""
    chosen = torch.tensor(index, device=x.device)
    taken: Tensor = x.unflatten(dim, (-1, rows)).index_select(dim + 1, chosen).flatten(dim, dim + 1)
    return taken
