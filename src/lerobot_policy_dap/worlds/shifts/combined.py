"""Several factors at once."""

from __future__ import annotations

import numpy as np

from .base import Change, Factor, Scene


class Combined(Factor):
    """Factors one on top of another, all at one severity; each draws from the seed what it draws alone."""

    unit = "of 5"
    magnitudes = (1.0, 2.0, 3.0, 4.0, 5.0)

    def __init__(self, *parts: Factor, name: str | None = None) -> None:
        self.parts: tuple[Factor, ...] = sum((_parts(part) for part in parts), ())
        self.name = name or "&".join(part.name for part in self.parts)
        self.quantity = f"all at once: {', '.join(part.name for part in self.parts)}"
        self.physical = any(part.physical for part in self.parts)
        self.needs = (
            "; ".join(dict.fromkeys(p.needs for p in self.parts if p.needs != Factor.needs)) or Factor.needs
        )

    def lacks(self, scene: Scene) -> str | None:
        """What the first part lacks that lacks something."""
        return next((f"{p.name}: {lacking}" for p in self.parts if (lacking := p.lacks(scene)) is not None), None)

    def draw(self, scene: Scene, severity: int, seed: int) -> Change:
        """See `Factor`; every part under its own seed, so that it goes where it goes alone."""
        self.require(scene)
        total = Change()
        for part in self.parts:
            total = total.then(part.draw(scene.after(total), severity, seed))
        return total

    def change(self, scene: Scene, magnitude: float, rng: np.random.Generator) -> Change:
        """All parts at severity `magnitude`, under a seed of the generator's."""
        return self.draw(scene, round(magnitude), int(rng.integers(2**31)))


def _parts(factor: Factor) -> tuple[Factor, ...]:
    return factor.parts if isinstance(factor, Combined) else (factor,)
