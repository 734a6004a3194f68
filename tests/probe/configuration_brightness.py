"""A policy whose plan is known: every action is a multiple of one camera's mean brightness."""

from dataclasses import dataclass, field

from lerobot.configs import NormalizationMode, PreTrainedConfig


@PreTrainedConfig.register_subclass("brightness")
@dataclass
class BrightnessConfig(PreTrainedConfig):
    camera: str = "observation.images.top"
    gain: float = 10.0
    noise: float = 0.0
    horizon: int = 4
    n_action_steps: int = 3
    normalization_mapping: dict[str, NormalizationMode] = field(
        default_factory=lambda: {
            "VISUAL": NormalizationMode.IDENTITY,
            "STATE": NormalizationMode.IDENTITY,
            "ACTION": NormalizationMode.IDENTITY,
        }
    )

    observation_delta_indices = None
    reward_delta_indices = None

    @property
    def action_delta_indices(self):
        return list(range(self.horizon))

    def get_optimizer_preset(self):
        raise NotImplementedError

    def get_scheduler_preset(self):
        return None

    def validate_features(self):
        pass
