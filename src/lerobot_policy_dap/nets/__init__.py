"""Encoders and velocity networks."""

from .encoder import ImageEncoder
from .transformer import VelocityTransformer, velocity_network
from .velocity import VelocityMLP

__all__ = ["ImageEncoder", "VelocityMLP", "VelocityTransformer", "velocity_network"]
