"""Seeded Meta-World episodes, rendered on demand, under graded visual shift."""
