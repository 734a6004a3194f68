"""Encoders and velocity networks."""

from .encoder import ImageEncoder
from .velocity import VelocityMLP

__all__ = ["ImageEncoder", "VelocityMLP"]
