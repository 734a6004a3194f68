"""Feeds the wire decoder malformed messages, and says what became of them.

    python benchmarks/fuzz_wire.py --messages 100000

A crash, a hang (10 s) or anything but plain values and arrays of numbers ends it with an error. Memory is the resident
size of the process, after the first 5,000 messages and at the end.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import platform
import resource
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "runtime"))
from wire_mutations import check, messages

WARM = 5000


def peak_mib() -> float:
    """The largest resident size so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--messages", type=int, default=100_000)
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()

    gc.collect()
    gc.freeze()  # collecting LeRobot's modules takes longer than any message
    taken, longest, warm = 0, 0.0, 0.0
    started = time.perf_counter()
    for i, data in enumerate(itertools.islice(messages(asked.seed), asked.messages)):
        signal.alarm(10)  # ends the process
        before = time.process_time()
        taken += check(data)
        longest = max(longest, time.process_time() - before)
        if i == WARM:
            warm = peak_mib()
    signal.alarm(0)
    print(
        json.dumps(
            {
                "messages": asked.messages,
                "refused": asked.messages - taken,
                "taken": taken,
                "crashes": 0,
                "seconds": round(time.perf_counter() - started, 1),
                "longest_cpu_ms": round(1000 * longest, 2),
                "peak_mib_warm": round(warm, 1),
                "peak_mib_end": round(peak_mib(), 1),
                "seed": asked.seed,
                "python": platform.python_version(),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
