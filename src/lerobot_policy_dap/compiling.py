"""A function as one compiled graph, or as it was where it cannot be compiled."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_map_only

logger = logging.getLogger(__name__)


def compiled[**P, R](function: Callable[P, R], device: torch.device) -> Callable[P, R]:
    """`function`, compiled by torch at its first call for each shape of its arguments.

    The first compilation takes half a minute or more; torch keeps it on disk, so that later processes of the
    same machine start within seconds. On a GPU the graph is a CUDA graph. Where compiling fails (no C++ compiler,
    an operation that cannot be captured), this is said once in the log and `function` itself goes on.
    """
    options: dict[str, Any] = (
        {"mode": "reduce-overhead"}
        if device.type == "cuda"
        # Without the wrapper in C++, calling the kernels of such small networks costs more than running them.
        else {"options": {"cpp_wrapper": True}}
    )
    fast: Callable[P, R] | None = torch.compile(function, dynamic=False, **options)

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        nonlocal fast
        if fast is not None:
            try:
                result = fast(*args, **kwargs)
                # A CUDA graph writes its next results where it wrote these.
                return tree_map_only(torch.Tensor, torch.clone, result) if device.type == "cuda" else result
            except Exception as error:
                result = function(*args, **kwargs)  # its own errors are the caller's
                fast = None
                reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                logger.warning("cannot compile %s (%s); it runs uncompiled", function.__name__, reason)
                return result
        return function(*args, **kwargs)

    return call
