"""Memory that a training keeps between its steps."""

from __future__ import annotations

import ctypes

# Of glibc's malloc.h. It takes no larger threshold for blocks that are mapped one by one.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_MAPPED, _KEPT_FREE = 32 * 2**20, 2**30


def keep_freed_memory() -> None:
    """Lets this process keep up to a gibibyte that was freed, for the next allocation.

    A training step allocates and frees the same batches of images again and again. glibc asks the kernel for every
    block of their size and gives it back at once, and every page of it is then cleared and mapped anew: a third of
    the processor time of a small policy's step. Where the C library is another one, nothing is done.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGEST_MAPPED)
    mallopt(_M_TRIM_THRESHOLD, _KEPT_FREE)
