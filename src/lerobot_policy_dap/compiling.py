"""The generation of chunks as one compiled graph, or as it was where it cannot be compiled."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from .flow import Sample

logger = logging.getLogger(__name__)

Generate = Callable[[dict[str, Tensor], Tensor, Tensor], Sample]
"""From an observation `[B, …]` and the noise of both flows, of one or several candidates of each row."""


def compiled(generate: Generate, device: torch.device) -> Generate:
    """`generate`, compiled by torch at its first call for each power of two of rows (`in_few_sizes`).

    The first compilation takes half a minute or more; torch keeps it on disk, so that later processes of the
    same machine start within seconds. On a GPU every size is then recorded as a CUDA graph, which holds the
    weights by their place: a policy that is moved must be compiled anew. Where compiling fails (no C++ compiler,
    an operation that cannot be recorded), this is said once in the log and `generate` itself goes on.
    """
    # On a CPU, without the wrapper in C++, calling the kernels of such small networks costs more than running them.
    options: dict[str, Any] = {} if device.type == "cuda" else {"options": {"cpp_wrapper": True}}
    one_graph: Generate = torch.compile(generate, dynamic=False, **options)
    fast: Generate | None = _Recorded(one_graph) if device.type == "cuda" else one_graph

    def call(observation: dict[str, Tensor], action_noise: Tensor, outcome_noise: Tensor) -> Sample:
        nonlocal fast
        if fast is not None:
            try:
                return fast(observation, action_noise, outcome_noise)
            except Exception as error:
                result = generate(observation, action_noise, outcome_noise)  # its own errors are the caller's
                fast = None
                reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                logger.warning("cannot compile the generation of chunks (%s); it runs uncompiled", reason)
                return result
        return generate(observation, action_noise, outcome_noise)

    return in_few_sizes(call)


class _Recorded:
    """Calls as CUDA graphs, one for each shape of the arguments.

    Of torch's public parts, and not `mode="reduce-overhead"`, whose graphs refuse to run in any thread but the first
    (pytorch/pytorch#123177): servers and robots plan in threads of their own.
    """

    def __init__(self, generate: Generate) -> None:
        self._generate = generate
        self._lock = threading.Lock()  # a graph reads and writes the same places in every call
        self._graphs: dict[tuple[Any, ...], tuple[torch.cuda.CUDAGraph, list[Tensor], Sample]] = {}

    def __call__(self, observation: dict[str, Tensor], action_noise: Tensor, outcome_noise: Tensor) -> Sample:
        arguments = (observation, action_noise, outcome_noise)
        given = tree_leaves(arguments)
        key = (*observation, *((x.shape, x.dtype) for x in given))
        with self._lock:
            if key not in self._graphs:
                self._graphs[key] = self._record(arguments)
            graph, places, result = self._graphs[key]
            for place, x in zip(places, given, strict=True):
                place.copy_(x)
            graph.replay()
            kept: Sample = tree_map_only(Tensor, torch.clone, result)  # the next call writes where this one did
            return kept

    @torch.inference_mode(False)  # whose tensors no later call without it could write to
    @torch.no_grad()
    def _record(self, arguments: Any) -> tuple[torch.cuda.CUDAGraph, list[Tensor], Sample]:
        arguments = tree_map_only(Tensor, torch.clone, arguments)
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(2):  # compiles, and lets libraries find their algorithms and workspaces
                self._generate(*arguments)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = self._generate(*arguments)
        return graph, tree_leaves(arguments), result


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
