"""The robustness bench: the same seeded episodes clean and under visual shift, paired statistics, a report."""
