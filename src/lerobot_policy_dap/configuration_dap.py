"""`--policy.type=dap`: the policy's configuration."""

from __future__ import annotations

from dataclasses import dataclass, field

from lerobot.configs import NormalizationMode, PreTrainedConfig
from lerobot.optim import AdamWConfig, CosineDecayWithWarmupSchedulerConfig

from .errors import UserError
from .flow import Coupling


@PreTrainedConfig.register_subclass("dap")
@dataclass
class DAPConfig(PreTrainedConfig):
    """A policy flow and an action-conditioned dynamics flow, coupled while they generate.

    The defaults are the small preset: about two million parameters, trained on a CPU in minutes.
    """

    horizon: int = 16
    """H: actions in a chunk. The outcome is the observation H steps from now."""
    n_action_steps: int = 8
    """Actions executed before the next chunk is planned."""
    coupling: str = Coupling.TWO_WAY.value
    """The arm: `none` (plain flow matching) or `two_way` (DAP)."""
    num_inference_steps: int = 10
    """K: coupled Euler steps from noise to a chunk."""
    inference_seed: int | None = 0
    """Seeds the flow's noise at every `reset()`, so that an episode repeats; null leaves it to torch."""

    image_size: int = 84
    """Side in pixels to which images are resized inside the policy."""
    encoder_width: int = 32
    """Channels of the encoder's first layer."""
    latent_dim: int = 128
    """Size of the image encoding z, and of the image part of the outcome."""
    hidden_dim: int = 256
    """Width of the velocity networks."""
    depth: int = 3
    """Blocks of the velocity networks."""

    dynamics_weight: float = 0.5
    """λ_dyn, weight of the dynamics loss given the policy's own estimate of the chunk."""
    dynamics_true_weight: float = 0.5
    """λ_true, weight of the dynamics loss given the demonstrated chunk."""
    align: bool = True
    """Whether the dynamics loss reaches the policy through its estimate of the chunk."""
    feedback_dropout: float = 0.25
    """Probability with which a training row sees the null token instead of the predicted outcome."""
    noise_draws: int = 2
    """Pairs of time and noise drawn for each encoded image in a training step."""
    time_alpha: float = 1.0
    """Flow time of training is drawn from Beta(time_alpha, 1): 1 is uniform, larger looks at noisier samples."""
    image_shift: int = 4
    """Training images are moved by up to this many pixels in both directions, at `image_size`."""
    ema_decay: float = 0.99
    """Decay of the averaged encoder that makes the outcome targets."""

    normalization_mapping: dict[str, NormalizationMode] = field(
        default_factory=lambda: {
            "VISUAL": NormalizationMode.IDENTITY,
            "STATE": NormalizationMode.MEAN_STD,
            "ACTION": NormalizationMode.MEAN_STD,
        }
    )

    optimizer_lr: float = 1e-3
    optimizer_betas: tuple[float, float] = (0.9, 0.999)
    optimizer_eps: float = 1e-8
    optimizer_weight_decay: float = 1e-4
    optimizer_grad_clip_norm: float = 10.0
    scheduler_warmup_steps: int = 2_000
    scheduler_decay_steps: int = 100_000
    scheduler_decay_lr: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.coupling not in list(Coupling):
            known = ", ".join(Coupling)
            raise UserError(f"policy.coupling is {self.coupling!r}; choose one of: {known}")
        if self.n_obs_steps != 1:
            raise UserError(f"policy.n_obs_steps is {self.n_obs_steps}; dap looks at one observation: set it to 1")
        if not 1 <= self.n_action_steps <= self.horizon:
            raise UserError(
                f"policy.n_action_steps is {self.n_action_steps}; it must lie between 1 and horizon={self.horizon}"
            )
        if self.image_size < 36:
            raise UserError(f"policy.image_size is {self.image_size}; the encoder needs at least 36 pixels")
        for name in ("num_inference_steps", "noise_draws"):
            if getattr(self, name) < 1:
                raise UserError(f"policy.{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 <= self.feedback_dropout <= 1:
            raise UserError(f"policy.feedback_dropout is {self.feedback_dropout}; it is a probability, 0 to 1")

    @property
    def arm(self) -> Coupling:
        """The coupling as a member of its enumeration."""
        return Coupling(self.coupling)

    @property
    def observation_delta_indices(self) -> list[int]:
        """Now, and the observation after the chunk where the arm learns dynamics."""
        return [0, self.horizon] if self.arm.learns_dynamics else [0]

    @property
    def action_delta_indices(self) -> list[int]:
        """The chunk starts with the action taken now."""
        return list(range(self.horizon))

    @property
    def reward_delta_indices(self) -> None:
        """Rewards are not used."""
        return

    def get_optimizer_preset(self) -> AdamWConfig:
        """AdamW with the fields `optimizer_*`."""
        return AdamWConfig(
            lr=self.optimizer_lr,
            betas=self.optimizer_betas,
            eps=self.optimizer_eps,
            weight_decay=self.optimizer_weight_decay,
            grad_clip_norm=self.optimizer_grad_clip_norm,
        )

    def get_scheduler_preset(self) -> CosineDecayWithWarmupSchedulerConfig:
        """Warm-up and cosine decay; LeRobot shrinks both to the length of a shorter run."""
        return CosineDecayWithWarmupSchedulerConfig(
            num_warmup_steps=self.scheduler_warmup_steps,
            num_decay_steps=self.scheduler_decay_steps,
            peak_lr=self.optimizer_lr,
            decay_lr=self.scheduler_decay_lr,
        )

    def validate_features(self) -> None:
        """Raises `UserError` unless there is an action to learn and something to see."""
        if self.action_feature is None:
            raise UserError("the dataset has no feature 'action'; dap learns from actions")
        if not self.image_features and self.robot_state_feature is None:
            raise UserError("the dataset has neither images nor 'observation.state'; dap needs one of them")
