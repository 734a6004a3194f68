"""That a process which trains keeps its batches' memory between steps instead of asking the kernel for it again."""

import ctypes
import subprocess
import sys

import pytest

KEPT = """
import ctypes, sys
import torch
from lerobot_policy_dap.train.allocator import keep_freed_memory

class Mallinfo2(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"
    )]

if sys.argv[1] == "keep":
    keep_freed_memory()
batches = [torch.zeros(5_000_000) for _ in range(10)]
del batches
free = ctypes.CDLL(None).mallinfo2
free.restype = Mallinfo2
print(free().fordblks)
"""


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallinfo2"),
    reason="it is glibc's allocator that is told, and glibc 2.33's that tells",
)
def test_what_was_freed_is_kept():
    def kept(how):
        done = subprocess.run([sys.executable, "-c", KEPT, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert kept("leave") < 50e6
    assert kept("keep") > 190e6
