"""`DAPPolicy`: the coupled flow behind LeRobot's policy interface."""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from lerobot.policies import PreTrainedPolicy
from lerobot.utils.constants import ACTION, OBS_STATE
from safetensors.torch import load_file
from torch import Tensor

from .compiling import compiled
from .configuration_dap import HEAD_DIM, DAPConfig
from .errors import UserError
from .files import RECORDING_FILE, read_json, write_json
from .flow import FlowLosses, Sample, flow_losses, sample
from .nets import ImageEncoder, VelocityMLP, VelocityTransformer
from .nets.augment import random_shift
from .nets.statistics import Standardize, effective_rank

DIAGNOSTICS_EVERY = 50
"""Training steps between two measurements of the figures that cost an extra evaluation, or a wait for a GPU."""


class DAPPolicy(PreTrainedPolicy):
    """Proposes action chunks that agree with what an action-conditioned dynamics model says they lead to.

    The outcome s of a chunk is the observation H steps later: its images through an averaged copy of the
    encoder, and its state, standardised.
    """

    config_class = DAPConfig
    name = "dap"

    def __init__(self, config: DAPConfig, dataset_meta: Any = None, **kwargs: Any) -> None:
        super().__init__(config)
        config.validate_features()
        self.config: DAPConfig = config
        self.recording = _recording_of(dataset_meta)
        action, state = config.action_feature, config.robot_state_feature
        assert action is not None
        self.chunk_shape = (config.horizon, action.shape[0])
        self.state_dim = state.shape[0] if state is not None else 0

        self.encoder = ImageEncoder(
            sorted(config.image_features),
            config.image_size,
            config.encoder_width,
            config.latent_dim,
            config.encoder,
        )
        self.target_encoder = copy.deepcopy(self.encoder).requires_grad_(False)
        self.outcome_dim = context_dim = self.encoder.dim + self.state_dim
        self.standardize = Standardize(self.outcome_dim)
        outcome_shape = (self.outcome_dim,)
        sizes = ((config.hidden_dim, config.depth), (config.dynamics_hidden_dim, config.dynamics_depth))
        shapes = ((self.chunk_shape, outcome_shape), (outcome_shape, self.chunk_shape))
        self.policy, self.dynamics = (
            _velocity(config, own, other, context_dim, hidden, depth)
            for (own, other), (hidden, depth) in zip(shapes, sizes, strict=True)
        )
        if not config.arm.learns_dynamics:
            self.dynamics.requires_grad_(False)
        # What FSDP shards as one unit; accelerate looks the names up among the modules.
        units = {"MLPBlock", "TransformerBlock", "ResidualBlock"}
        self._no_split_modules = sorted(units & {type(module).__name__ for module in self.modules()})
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.updates: Tensor
        self._forwards = 0
        self._observed = [*self.encoder.cameras, *([OBS_STATE] if self.state_dim else [])]
        self._generate: Callable[[dict[str, Tensor], Tensor, Tensor], Sample] | None = None
        self.reset()

    # Training

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """The training loss of a batch, and figures to log.

        Args:
            batch: images `[B, T, C, height, width]` in [0, 1], state `[B, T, D]` and actions `[B, H, A]`, both
                normalised, with LeRobot's `*_is_pad` masks; T is 2 (now, after the chunk), or 1 for `none`.
        """
        draws = self.config.noise_draws
        context = self._context(batch, augment=self.training)
        outcome, outcome_is_pad = self._outcome(batch, context)
        action = batch[ACTION]
        action_is_pad = batch.get(f"{ACTION}_is_pad")
        if action_is_pad is None:
            action_is_pad = torch.zeros(action.shape[:2], dtype=torch.bool, device=action.device)
        losses = flow_losses(
            self.policy,
            self.dynamics,
            self.config.arm,
            *(x.repeat_interleave(draws, dim=0) for x in (context, action, outcome)),
            action_is_pad=action_is_pad.repeat_interleave(draws, dim=0),
            outcome_is_pad=outcome_is_pad.repeat_interleave(draws, dim=0),
            feedback_dropout=self.config.feedback_dropout,
            align=self.config.align,
            time_alpha=self.config.time_alpha,
        )
        loss = (
            losses.policy
            + self.config.dynamics_weight * losses.dynamics
            + self.config.dynamics_true_weight * losses.dynamics_true
        )
        return loss, self._figures(losses, context, action, outcome)

    def update(self) -> None:
        """Moves the averaged encoder; the training loop calls it after every optimiser step."""
        self.updates += 1
        # Follows closely while the encoder is new. The decay stays on the device: nothing waits for it.
        decay = torch.clamp((1 + self.updates) / (10 + self.updates), max=self.config.ema_decay)
        with torch.no_grad():
            for target, online in zip(self.target_encoder.parameters(), self.encoder.parameters(), strict=True):
                target.lerp_(online, 1 - decay)

    def get_optim_params(self) -> Any:
        """The parameters that are trained, as one group."""
        return [p for p in self.parameters() if p.requires_grad]

    # Acting

    def reset(self) -> None:
        """Forgets the chunk under way and starts the flow's noise afresh."""
        self._queue: deque[Tensor] = deque(maxlen=self.config.n_action_steps)
        self._generator: torch.Generator | None = None

    @torch.no_grad()
    def predict_action_chunk(self, batch: dict[str, Tensor], **kwargs: Any) -> Float[Tensor, "B H A"]:
        """A chunk of normalised actions for each row, whole.

        Args:
            batch: images `[B, C, height, width]` in [0, 1] and normalised state `[B, D]`.
            kwargs: `noise` `[B, H, A]` fixes the action flow's noise.
        """
        return self.generate(batch, action_noise=kwargs.get("noise")).action

    @torch.no_grad()
    def generate(
        self,
        batch: dict[str, Tensor],
        action_noise: Float[Tensor, "B H A"] | None = None,
        outcome_noise: Float[Tensor, "B S"] | None = None,
    ) -> Sample:
        """As `predict_action_chunk`, with the outcome that the dynamics expects of the chunk."""
        self.eval()
        observation = {key: batch[key] for key in self._observed}
        rows = len(observation[self._observed[0]])
        if action_noise is None:
            action_noise = self._noise(rows, *self.chunk_shape)
        if outcome_noise is None:
            outcome_noise = self._noise(rows, self.outcome_dim)
        if self._generate is None:
            device = action_noise.device
            self._generate = compiled(self._flow, device) if self.config.compile_model else self._flow
        return self._generate(observation, action_noise, outcome_noise)

    def _flow(self, observation: dict[str, Tensor], action_noise: Tensor, outcome_noise: Tensor) -> Sample:
        """One encoder pass and K coupled steps: what is compiled."""
        context = self._context(observation, augment=False)
        steps = self.config.num_inference_steps
        return sample(self.policy, self.dynamics, self.config.arm, context, action_noise, outcome_noise, steps)

    @torch.no_grad()
    def select_action(self, batch: dict[str, Tensor], **kwargs: Any) -> Float[Tensor, "B A"]:
        """The next normalised action of each row; plans a new chunk when the last one is used up."""
        if not self._queue:
            chunk = self.predict_action_chunk(batch, **kwargs)
            self._queue.extend(chunk[:, : self.config.n_action_steps].unbind(dim=1))
        return self._queue.popleft()

    def _noise(self, *shape: int) -> Tensor:
        device = next(self.parameters()).device
        if self._generator is None and self.config.inference_seed is not None:
            self._generator = torch.Generator(device=device).manual_seed(self.config.inference_seed)
        return torch.randn(shape, device=device, generator=self._generator)

    # Observations

    def _context(self, batch: dict[str, Tensor], augment: bool) -> Float[Tensor, "B D"]:
        """The encoding of the observation now, and of nothing later."""
        parts = []
        if self.encoder.cameras:
            images = {camera: _at(batch[camera], 0, ndim=4) for camera in self.encoder.cameras}
            if augment and self.config.image_shift:
                size, reach = self.config.image_size, self.config.image_shift
                images = {camera: random_shift(image, size, reach) for camera, image in images.items()}
            parts.append(self.encoder(images))
        if self.state_dim:
            parts.append(_at(batch[OBS_STATE], 0, ndim=2))
        return torch.cat(parts, dim=-1)

    @torch.no_grad()
    def _outcome(
        self, batch: dict[str, Tensor], context: Float[Tensor, "B D"]
    ) -> tuple[Float[Tensor, "B S"], Bool[Tensor, "B"]]:
        """The standardised outcome of each row, and whether it lies past the episode's end."""
        B = len(context)
        if not self.config.arm.learns_dynamics:
            return context.new_zeros(B, self.outcome_dim), torch.ones(B, dtype=torch.bool, device=context.device)
        keys = self._observed
        if batch[keys[0]].shape[1] < 2:
            raise UserError(
                f"the batch holds no {keys[0]} after the chunk; coupling {self.config.coupling} needs it"
            )
        parts = []
        if self.encoder.cameras:
            parts.append(self.target_encoder({camera: batch[camera][:, 1] for camera in self.encoder.cameras}))
        if self.state_dim:
            parts.append(batch[OBS_STATE][:, 1])
        raw = torch.cat(parts, dim=-1)
        is_pad = batch.get(f"{keys[0]}_is_pad")
        past_end = is_pad[:, 1] if is_pad is not None else torch.zeros(B, dtype=torch.bool, device=raw.device)
        return self.standardize(raw), past_end

    # Figures

    def _figures(self, losses: FlowLosses, context: Tensor, action: Tensor, outcome: Tensor) -> dict[str, float]:
        measured = self._forwards % DIAGNOSTICS_EVERY == 0
        self._forwards += 1
        if losses.policy.is_cuda and not measured:
            return {}  # reading a number waits for the GPU
        figures = {"policy_loss": losses.policy.item()}
        learns = self.config.arm.learns_dynamics
        if learns:
            figures["dynamics_loss"] = losses.dynamics.item()
            figures["dynamics_true_loss"] = losses.dynamics_true.item()
            figures["feedback_effect"] = losses.feedback_effect.item()
        if measured and len(context) > 1:
            figures |= self._image_figures(context, action)
            if learns:
                figures |= self._dynamics_figures(context, action, outcome)
        return figures

    @torch.no_grad()
    def _image_figures(self, context: Tensor, action: Tensor) -> dict[str, float]:
        """Does the policy look? An encoder that ignores its images trains to a perfectly normal loss.

        `image_spread`: standard deviation of z over the batch, mean over dimensions: how much it varies with
        the image alone (z sees nothing else). `image_use`: how far the velocity at pure noise moves when every
        row is given its neighbour's image and keeps its own state, relative to the velocity's own variance.
        `latent_rank`: effective rank of z.
        """
        D = self.encoder.dim
        if not D:
            return {}
        swapped = torch.cat([context[:, :D].roll(1, dims=0), context[:, D:]], dim=-1)
        t = context.new_ones(len(context))
        start = torch.zeros_like(action)
        own, other = (self.policy(start, t, self.policy.condition(t, z)) for z in (context, swapped))
        variance = own.var(dim=0).mean().clamp(min=1e-8)
        return {
            "image_spread": context[:, :D].std(dim=0).mean().item(),
            "image_use": ((own - other).square().mean() / variance).item(),
            "latent_rank": effective_rank(context[:, :D]),
        }

    @torch.no_grad()
    def _dynamics_figures(self, context: Tensor, action: Tensor, outcome: Tensor) -> dict[str, float]:
        """Has the outcome collapsed, and does the dynamics heed the action?

        `outcome_spread`: mean running standard deviation before standardising. `outcome_rank`: effective rank
        of the standardised outcomes. `action_gain`: error of the one-step outcome from pure noise given a
        neighbour's chunk, divided by the error given the row's own.
        """
        t = context.new_ones(len(context))
        start = torch.zeros_like(outcome)
        condition = self.dynamics.condition(t, context)

        def error(chunk: Tensor) -> Tensor:
            predicted: Tensor = start - self.dynamics(start, t, condition, chunk)
            return (predicted - outcome).square().mean()

        variance = self.standardize.running_var
        assert variance is not None
        return {
            "outcome_spread": variance.sqrt().mean().item(),
            "outcome_rank": effective_rank(outcome),
            "action_gain": (error(action.roll(1, dims=0)) / error(action).clamp(min=1e-8)).item(),
        }

    # Checkpoints

    def _save_pretrained(self, save_directory: Path, state_dict: dict[str, Tensor] | None = None) -> None:
        super()._save_pretrained(save_directory, state_dict=state_dict)
        if self.recording is not None:
            write_json(Path(save_directory) / RECORDING_FILE, self.recording)

    @classmethod
    def _load_as_safetensor(cls, model: DAPPolicy, model_file: str, map_location: str, strict: bool) -> DAPPolicy:
        """Loads the weights, all of them: LeRobot's default would leave missing ones at random in silence."""
        path = Path(model_file)
        if not path.exists():
            raise UserError(f"{path} is missing; the folder is no whole checkpoint")
        try:
            weights = load_file(path)
        except Exception as error:
            raise UserError(f"{path} is not a readable safetensors file ({error})") from error
        own = model.state_dict()
        wrong = {
            "lacks": sorted(own.keys() - weights.keys()),
            "holds the unknown": sorted(weights.keys() - own.keys()),
            "has other shapes for": sorted(
                k for k in own.keys() & weights.keys() if own[k].shape != weights[k].shape
            ),
        }
        for what, keys in wrong.items():
            if keys:
                raise UserError(f"{path} {what} {len(keys)} weights of this policy ({', '.join(keys[:3])}, …)")
        model.load_state_dict(weights)
        recording = path.with_name(RECORDING_FILE)
        if model.recording is None and recording.exists():
            model.recording = read_json(recording)
        return model


def _velocity(
    config: DAPConfig, own: tuple[int, ...], other: tuple[int, ...], context_dim: int, hidden: int, depth: int
) -> VelocityMLP | VelocityTransformer:
    """A velocity network over samples of shape `own` that is fed the other model's of shape `other`."""
    if config.velocity == "mlp":
        return VelocityMLP(own, context_dim, math.prod(other), hidden, depth)
    return VelocityTransformer(own, context_dim, other, hidden, depth, heads=hidden // HEAD_DIM)


def _at(x: Tensor, index: int, ndim: int) -> Tensor:
    """The frame at `index` of `[B, T, …]`, or `x` itself where it has no time axis."""
    return x[:, index] if x.ndim > ndim else x


def _recording_of(dataset_meta: Any) -> dict[str, Any] | None:
    """The dataset's own account of how its frames were recorded, where it has one."""
    root = getattr(dataset_meta, "root", None)
    path = Path(root) / "meta" / RECORDING_FILE if root is not None else None
    return read_json(path) if path is not None and path.exists() else None
