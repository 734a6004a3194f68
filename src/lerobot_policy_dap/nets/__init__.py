"""Encoders and velocity networks."""

from .encoder import ImageEncoder
from .transformer import VelocityTransformer
from .velocity import VelocityMLP

__all__ = ["ImageEncoder", "VelocityMLP", "VelocityTransformer"]
