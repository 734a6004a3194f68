"""`--policy.type=dap`: the policy's configuration."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, fields
from typing import Any

from lerobot.configs import NormalizationMode, PreTrainedConfig
from lerobot.optim import AdamWConfig, CosineDecayWithWarmupSchedulerConfig
from lerobot.utils.constants import OBS_STATE

from .errors import UserError
from .flow import Choice, Coupling, Seen
from .nets.backbone import RESNETS
from .nets.encoder import KINDS as ENCODERS

log = logging.getLogger(__name__)

PRESETS: dict[str, dict[str, Any]] = {
    "small": {
        "image_size": 84,
        "encoder": "plain_gn",
        "standardize_images": True,
        "encoder_width": 16,
        "latent_dim": 128,
        "velocity": "mlp",
        "hidden_dim": 256,
        "depth": 3,
        "dynamics_hidden_dim": 128,
        "dynamics_depth": 1,
        "noise_draws": 2,
    },
    "base": {
        "image_size": 96,
        "encoder": "residual",
        "standardize_images": True,
        "encoder_width": 64,
        "latent_dim": 512,
        "velocity": "transformer",
        "hidden_dim": 384,
        "depth": 6,
        "dynamics_hidden_dim": 256,
        "dynamics_depth": 3,
        "noise_draws": 4,
    },
}
"""Sizes by preset. A saved configuration holds the sizes themselves, so a later change here leaves it alone."""

OF_DYNAMICS = (
    "outcome_offsets", "outcome_grid", "two_passes", "outcome_from_noise", "outcome_memory", "dynamics_weight",
    "dynamics_true_weight", "align", "dynamics_teaches_encoder", "feedback_dropout", "dynamics_only_ratio", "ema_decay",
)  # fmt: skip
"""Options that do nothing without a dynamics."""

HEAD_DIM = 64
"""Width of an attention head of the transformer."""


@PreTrainedConfig.register_subclass("dap")
@dataclass
class DAPConfig(PreTrainedConfig):
    """A policy flow and an action-conditioned dynamics flow, coupled while they generate."""

    n_obs_steps: int = 1
    """Observations that are looked at, the last one being now; each is encoded, and all are joined."""
    horizon: int = 16
    """H: actions in a chunk."""
    n_action_steps: int = 8
    """Actions executed before the next chunk is planned."""
    coupling: str = Coupling.NONE.value
    """The arm: `none` (plain flow matching, what the evidence prefers), `two_way` (DAP), or one between: `auxiliary`,
    `agnostic`, `one_way`, `shuffled` (docs/method.md). Weights of one arm load as another: a trained `two_way` as
    `auxiliary` generates without feedback."""
    outcome_offsets: tuple[int, ...] = ()
    """The outcome is the observation so many steps from now, one or several; the horizon where none is given, and 0
    for the observation now (a control that holds no future)."""
    outcome_grid: int = 0
    """0: the outcome of an image is its encoding, a vector. g: the means of its features over g x g cells, each a
    token of its own to a transformer."""
    num_inference_steps: int = 4
    """K: coupled Euler steps from noise to a chunk. On three tasks, of which one can tell, 2, 4 and 10 succeeded alike
    (benchmarks/)."""
    two_passes: bool = False
    """Whether every flow step of a generation makes ŝ anew, by a pass without feedback as in training, instead of
    taking that of the step before: exact where outcomes follow closely from actions, at twice the evaluations
    (docs/method.md)."""
    outcome_from_noise: bool = False
    """Whether the dynamics sees the outcome's noise at its time 1 in every flow step, in training and when acting, so
    that ŝ holds nothing of the true outcome, which s_t does at small t (docs/method.md). A training's own: weights of
    one kind do not act as the other."""
    candidates: int = 1
    """Chunks sampled for an observation, of which one is acted on; one alone in real-time chunking."""
    choose: str = Choice.FIRST.value
    """Which of them: `first`, `medoid` (nearest to the others), or `outcome`: the one whose expected outcome is
    nearest to a demonstrated one. That needs a dynamics, and `outcome_memory` in training."""
    steer: float = 0.0
    """How far the estimate of a chunk is moved in a flow step, at most, to bring its expected outcome back towards the
    demonstrated ones, where it has left them (root mean square, in standard deviations of an action). Off by default:
    an experiment (docs/method.md). Needs what `choose` by outcome needs, and does nothing in real-time chunking."""
    steer_beyond: float = 0.95
    """An outcome has left the demonstrated ones where it is further from all of them than this share of them is from
    its nearest other one."""
    outcome_memory: int = 0
    """Demonstrated outcomes that are kept beside the weights: the latest of the training."""
    compile_model: bool = False
    """Whether generating a chunk is one compiled graph: up to twice as fast (benchmarks/), after a first call that
    takes half a minute or more (seconds once torch has it on disk). Eager where there is no compiler."""
    monitor: bool = False
    """Whether `select_action` asks the monitor that `dap calibrate` put beside the weights; `policy.last_verdict`."""
    inference_seed: int | None = 0
    """Seeds the flow's noise at every `reset()`, so that an episode repeats; null leaves it to torch."""

    diagnostics: bool = False
    """Whether `select_action` leaves behind, in `DAPPolicy.diagnostics`, how far the chunk moved between flow steps
    and how far what was expected is from what is observed."""

    preset: str = "small"
    """`small` (1.3 million parameters, trained on a CPU in minutes) or `base` (one GPU): what the sizes
    below are where they are not given."""
    image_size: int = None  # type: ignore[assignment]
    """Side in pixels to which images are resized inside the policy."""
    encoder: str = None  # type: ignore[assignment]
    """`plain` (three convolutions), `plain_gn` (each followed by group normalisation), `residual` (eight residual
    blocks), or torchvision's `resnet18`, `resnet34`, `resnet50`; one a camera."""
    standardize_images: bool = None  # type: ignore[assignment]
    """Whether the encoder sees each image less its own mean and over its own standard deviation, by channel, instead
    of its bytes scaled to [-1, 1]. Where it is not given, with the preset's own encoder alone."""
    pretrained_backbone_weights: str | None = None
    """Where training starts a `resnet*` encoder from: a safetensors file, or a Hub repository that holds a
    `model.safetensors`, with the names that torchvision and timm share (`timm/resnet18.tv_in1k`). Null: from scratch.
    Checkpoints hold their own weights and need neither."""
    encoder_width: int = None  # type: ignore[assignment]
    """Channels of the encoder's first layer."""
    latent_dim: int = None  # type: ignore[assignment]
    """Size of the image encoding z, and of the image part of the outcome."""
    velocity: str = None  # type: ignore[assignment]
    """Velocity networks: `mlp` or `transformer`."""
    hidden_dim: int = None  # type: ignore[assignment]
    """Width of the policy's velocity network."""
    depth: int = None  # type: ignore[assignment]
    """Blocks of the policy's velocity network."""
    dynamics_hidden_dim: int = None  # type: ignore[assignment]
    """Width of the dynamics' velocity network."""
    dynamics_depth: int = None  # type: ignore[assignment]
    """Blocks of the dynamics' velocity network."""
    noise_draws: int = None  # type: ignore[assignment]
    """Pairs of time and noise drawn for each encoded image in a training step."""

    dynamics_weight: float = 0.5
    """λ_dyn, weight of the dynamics loss given the policy's own estimate of the chunk. With 0 a feedback comes of a
    dynamics that never learned from estimates."""
    dynamics_true_weight: float = 0.5
    """λ_true, weight of the dynamics loss given the demonstrated chunk. What is expected of a chunk that is given (by
    `choose`, `steer`, the monitor, diagnostics) comes of this loss, and of nothing with 0."""
    align: bool = True
    """Whether the dynamics loss reaches the policy through its estimate of the chunk."""
    dynamics_teaches_encoder: bool = True
    """Whether the dynamics loss reaches the encoder through what the dynamics is told of the observation."""
    feedback_dropout: float = 0.25
    """Probability with which a training row sees the null token instead of the predicted outcome."""
    time_alpha: float = 1.0
    """Flow time of training is drawn from Beta(time_alpha, 1): 1 is uniform, larger looks at noisier samples."""
    dynamics_only_tasks: tuple[str, ...] = ("play",)
    """Rows with one of these task texts are not imitated: they teach the dynamics, and through it the encoder. What
    `dap collect --play` adds is labelled `play`."""
    dynamics_only_ratio: float = 1.0
    """`dap train` adds so many of these rows to each row that is imitated, where the dataset has some."""
    image_shift: int = 2
    """Training images are moved by up to this many pixels in both directions, at `image_size`. With 4 of 84 most tasks
    were half learned; with 0 a moved camera ended all success (benchmarks/method/results/image_shift)."""
    image_light: float = 0.5
    """Training images, and never the outcomes, are seen in another light: brightness and contrast change by up to
    exp(±image_light), colours by half as much. 0: as they are, which loses 8 to 10 points under visual shift and gains
    none clean (benchmarks/method/results/deciding, converged)."""
    image_hue: float = 0.0
    """Training images, and never the outcomes, have their colours turned by up to this share of the colour circle to
    either side; 0.5 is any turn. A tenth gained nothing over all factors of visual shift, and any turn lost
    (benchmarks/method/results/hue)."""
    augmented_share: float = 1.0
    """Share of the training images that `image_shift`, `image_light` and `image_hue` change; the others are as
    recorded."""
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
        if self.preset not in PRESETS:
            raise UserError(f"policy.preset is {self.preset!r}; choose one of: {', '.join(PRESETS)}")
        sizes = PRESETS[self.preset]
        missing = [name for name in sizes if getattr(self, name) is None]
        for name in missing:
            setattr(self, name, sizes[name])
        if "standardize_images" in missing and self.encoder != sizes["encoder"]:
            self.standardize_images = False  # as it is with published weights, and was before there was a choice
        for name, kinds in (("encoder", ENCODERS), ("velocity", ("mlp", "transformer"))):
            if getattr(self, name) not in kinds:
                raise UserError(f"policy.{name} is {getattr(self, name)!r}; choose one of: {', '.join(kinds)}")
        unit = HEAD_DIM if self.velocity == "transformer" else 2  # the time's sines and cosines are as many
        for name in ("hidden_dim", "dynamics_hidden_dim"):
            if getattr(self, name) % unit:
                raise UserError(
                    f"policy.{name} is {getattr(self, name)}; {self.velocity}'s is a multiple of {unit}"
                )
        if self.encoder in ("plain_gn", "residual") and self.encoder_width % 8:
            raise UserError(
                f"policy.encoder_width is {self.encoder_width}; that of a {self.encoder} encoder is a multiple of 8"
            )
        if self.pretrained_backbone_weights and self.encoder not in RESNETS:
            raise UserError(
                f"policy.pretrained_backbone_weights needs policy.encoder to be one of {', '.join(RESNETS)}; "
                f"it is {self.encoder}"
            )
        self.outcome_offsets = tuple(self.outcome_offsets) or (self.horizon,)
        if list(self.outcome_offsets) != sorted(set(self.outcome_offsets)) or self.outcome_offsets[0] < 0:
            raise UserError(
                f"policy.outcome_offsets is {list(self.outcome_offsets)}; give rising numbers of steps from now"
            )
        if self.outcome_grid < 0:
            raise UserError(f"policy.outcome_grid is {self.outcome_grid}; it is a number of cells a side, or 0")
        if self.coupling not in list(Coupling):
            known = ", ".join(Coupling)
            raise UserError(f"policy.coupling is {self.coupling!r}; choose one of: {known}")
        if not 1 <= self.n_action_steps <= self.horizon:
            raise UserError(
                f"policy.n_action_steps is {self.n_action_steps}; it must lie between 1 and horizon={self.horizon}"
            )
        if self.image_size < 36:
            raise UserError(f"policy.image_size is {self.image_size}; the encoder needs at least 36 pixels")
        if self.choose not in list(Choice):
            raise UserError(f"policy.choose is {self.choose!r}; choose one of: {', '.join(Choice)}")
        judged = (
            self.arm.learns_dynamics and self.arm.dynamics_sees is not Seen.NOTHING and self.dynamics_true_weight
        )
        for name, asked in (("choose", self.choose == Choice.OUTCOME), ("steer", self.steer)):
            if asked and not (judged and self.outcome_memory):
                raise UserError(
                    f"policy.{name} is {getattr(self, name)}, which needs a coupling whose dynamics sees the chunk (it "
                    f"is {self.coupling}), and in training policy.outcome_memory (it is {self.outcome_memory}) and "
                    f"policy.dynamics_true_weight (it is {self.dynamics_true_weight}) above 0"
                )
        if self.choose != Choice.FIRST and self.candidates == 1:
            raise UserError(
                f"policy.choose is {self.choose}, among a single chunk; sample more with policy.candidates"
            )
        if self.steer and self.compile_model:
            raise UserError("policy.steer differentiates what policy.compile_model compiles; use one of them")
        for name in (
            "n_obs_steps", "num_inference_steps", "noise_draws", "candidates", "encoder_width", "latent_dim",
            "hidden_dim", "depth", "dynamics_hidden_dim", "dynamics_depth",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise UserError(f"policy.{name} is {getattr(self, name)}; it must be at least 1")
        if self.normalization_mapping.get("VISUAL", NormalizationMode.IDENTITY) != NormalizationMode.IDENTITY:
            raise UserError(
                f"policy.normalization_mapping has VISUAL {self.normalization_mapping['VISUAL'].value}; dap scales "
                "images itself: leave it IDENTITY"
            )
        self.dynamics_only_tasks = tuple(self.dynamics_only_tasks)
        for name in (
            "dynamics_only_ratio", "image_shift", "image_light", "outcome_memory", "dynamics_weight",
            "dynamics_true_weight", "steer",
        ):  # fmt: skip
            if getattr(self, name) < 0:
                raise UserError(f"policy.{name} is {getattr(self, name)}; it cannot be negative")
        if self.time_alpha <= 0:
            raise UserError(f"policy.time_alpha is {self.time_alpha}; it must be above 0")
        if not 0 <= self.ema_decay < 1:
            raise UserError(f"policy.ema_decay is {self.ema_decay}; it must be at least 0 and below 1")
        for name, most in (
            ("feedback_dropout", 1),
            ("augmented_share", 1),
            ("image_hue", 0.5),
            ("steer_beyond", 1),
        ):
            if not 0 <= getattr(self, name) <= most:
                raise UserError(f"policy.{name} is {getattr(self, name)}; it lies between 0 and {most}")

    @property
    def arm(self) -> Coupling:
        """The coupling as a member of its enumeration."""
        return Coupling(self.coupling)

    @property
    def observation_delta_indices(self) -> list[int]:
        """The observations up to now, and those that are the outcome where the arm learns dynamics."""
        history = list(range(1 - self.n_obs_steps, 1))
        return [*history, *(o for o in self.outcome_offsets if o)] if self.arm.learns_dynamics else history

    @property
    def generation(self) -> dict[str, Any]:
        """How `flow.sample` goes about it."""
        return {
            "steps": self.num_inference_steps,
            "two_passes": self.two_passes,
            "outcome_from_noise": self.outcome_from_noise,
        }

    @property
    def outcome_steps(self) -> int:
        """Steps in which `flow.outcome_of` goes from noise to an outcome."""
        return 1 if self.outcome_from_noise else self.num_inference_steps

    def dynamics_only_rows(self, batch_size: int) -> int:
        """Rows that teach dynamics alone, to be added to a batch of `batch_size`; an arm without dynamics has none."""
        return round(batch_size * self.dynamics_only_ratio) if self.arm.learns_dynamics else 0

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
        """Raises `UserError` unless there is an action to learn and something to see, in colour.

        Says which inputs are not looked at, and which options do nothing.
        """
        if self.action_feature is None:
            raise UserError("the dataset has no feature 'action'; dap learns from actions")
        if not self.image_features and self.robot_state_feature is None:
            raise UserError("the dataset has neither images nor 'observation.state'; dap needs one of them")
        for camera, feature in self.image_features.items():
            if 3 not in (feature.shape[0], feature.shape[-1]):
                raise UserError(
                    f"{camera} has the shape {tuple(feature.shape)}; dap looks at colour images, of 3 channels: name "
                    "what it shall look at with --policy.input_features"
                )
        ignored = sorted((self.input_features or {}).keys() - {*self.image_features, OBS_STATE})
        if ignored:
            log.warning("not looked at: %s; dap looks at images and %s", ", ".join(ignored), OBS_STATE)
        if not self.arm.learns_dynamics:
            usual = {f.name: f.default for f in fields(self)} | {"outcome_offsets": (self.horizon,)}
            idle = [name for name in OF_DYNAMICS if getattr(self, name) != usual[name]]
            if idle:
                log.warning(
                    "without effect while policy.coupling is %s, which has no dynamics: %s",
                    self.coupling,
                    ", ".join(idle),
                )
