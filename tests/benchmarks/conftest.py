"""The benchmark scripts are no package: they are found beside each other, as when they are run."""

import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path[:0] = [str(BENCHMARKS / "method"), str(BENCHMARKS)]
