"""The mathematics of DAP: probability path, coupled step, sampler, objective. Pure torch."""

from .coupling import Coupling
from .objective import FlowLosses, flow_losses
from .path import extrapolate, interpolate, target_velocity
from .sampler import Sample, sample

__all__ = [
    "Coupling",
    "FlowLosses",
    "Sample",
    "extrapolate",
    "flow_losses",
    "interpolate",
    "sample",
    "target_velocity",
]
