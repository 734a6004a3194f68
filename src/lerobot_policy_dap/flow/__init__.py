"""The mathematics of DAP: probability path, coupled step, sampler, objective. Pure torch."""

from .choice import Choice, chosen
from .coupling import Coupling, Seen
from .objective import FlowLosses, flow_losses
from .path import extrapolate, interpolate, target_velocity
from .sampler import Guide, Sample, outcome_of, sample
from .steering import Steering

__all__ = [
    "Choice",
    "Coupling",
    "FlowLosses",
    "Guide",
    "Sample",
    "Seen",
    "Steering",
    "chosen",
    "extrapolate",
    "flow_losses",
    "interpolate",
    "outcome_of",
    "sample",
    "target_velocity",
]
