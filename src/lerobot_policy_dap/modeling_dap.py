"""`DAPPolicy`: the coupled flow behind LeRobot's policy interface."""

from __future__ import annotations

import copy
import math
from collections import deque
from functools import partial
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard
from jaxtyping import Bool, Float
from lerobot.policies import PreTrainedPolicy
from lerobot.utils.constants import ACTION, OBS_STATE
from torch import Tensor

from .card import account
from .compiling import Generate, compiled
from .configuration_dap import DAPConfig
from .diagnostics import Diagnostics, Expectations
from .errors import UserError
from .files import RECORDING_FILE, read_recording, write_json
from .flow import Choice, Guide, Sample, chosen, flow_losses, outcome_of, sample
from .monitor.monitor import Monitor, Verdict
from .nets import ImageEncoder, velocity_network
from .nets.augment import augmented
from .nets.memory import OutcomeMemory
from .nets.statistics import Standardize
from .observing import Observing, imitated, padding, spelled_out
from .realtime import continued, executable, guidance
from .remembered import Remembered
from .training_figures import TrainingFigures
from .weights import fetch_recording, load_all, load_backbones, recording_of


class DAPPolicy(PreTrainedPolicy):
    """Proposes action chunks that agree with what an action-conditioned dynamics model says they lead to.

    The outcome s of a chunk is the observation `outcome_offsets` steps later: its images through an averaged copy of
    the encoder, and its state, standardised. It is `O` offsets of `S` numbers, of which a network sees tokens.
    """

    config_class = DAPConfig
    name = "dap"

    def __init__(self, config: DAPConfig, dataset_meta: Any = None, loads: bool = False, **kwargs: Any) -> None:
        super().__init__(config)
        config.validate_features()
        self.config: DAPConfig = config
        self.recording = recording_of(dataset_meta)
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
            pretrained=bool(config.pretrained_backbone_weights),
            standardize=config.standardize_images,
        )
        if config.pretrained_backbone_weights and not loads:  # a checkpoint holds weights of its own
            load_backbones(self.encoder, config.pretrained_backbone_weights)
        self.target_encoder = copy.deepcopy(self.encoder).requires_grad_(False)
        context_dim = config.n_obs_steps * (self.encoder.dim + self.state_dim)
        tokens, width = self.encoder.outcome_shape(config.outcome_grid)
        width += self.state_dim
        self.outcome_dim = tokens * width
        self.standardize = Standardize(self.outcome_dim)
        self.outcome_shape = (len(config.outcome_offsets) * tokens, width)
        size = config.outcome_memory
        self.memory = OutcomeMemory(size, math.prod(self.outcome_shape)) if size else None
        self.policy = velocity_network(
            config.velocity, self.chunk_shape, self.outcome_shape, context_dim, config.hidden_dim, config.depth
        )
        self.dynamics = velocity_network(
            config.velocity, self.outcome_shape, self.chunk_shape, context_dim, config.dynamics_hidden_dim,
            config.dynamics_depth, timed_feedback=True,
        )  # fmt: skip
        if not config.arm.learns_dynamics:
            self.dynamics.requires_grad_(False)
        # What FSDP shards as one unit, by name. Of the two encoders each process then has the same parts (`update`).
        units = {"ImageEncoder", "MLPBlock", "TransformerBlock", "ResidualBlock", "BasicBlock", "Bottleneck"}
        self._no_split_modules = sorted(units & {type(module).__name__ for module in self.modules()})
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.updates: Tensor
        self._figures = TrainingFigures(self)
        observed = [*self.encoder.cameras, *([OBS_STATE] if self.state_dim else [])]
        self._observing = Observing(observed, config.n_obs_steps)
        self._shapes = {key: f.shape for key, f in {**(config.input_features or {}), ACTION: action}.items()}
        self.folder: Path | None = None
        self._monitor: Monitor | None = None
        self._generate: Generate | None = None
        self._generator: torch.Generator | None = None
        self.reset()

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        self._generator = None
        self._generate = None  # what is compiled may hold the weights by their place
        return super()._apply(*args, **kwargs)

    # Training

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """The training loss of a batch, and figures to log.

        Args:
            batch: images `[B, T, C, height, width]` in [0, 1], state `[B, T, D]` and actions `[B, H, A]`, both
                normalised, with LeRobot's `*_is_pad` masks; T as `observation_delta_indices` of the configuration. Rows
                whose "task" text is in `dynamics_only_tasks` are not imitated.
        """
        self._observing.overlook_task(batch)
        batch = spelled_out(batch, self._shapes)
        draws = self.config.noise_draws
        context = self.context(batch, augment=self.training)
        outcome, outcome_is_pad = self._outcome(batch, context)
        action = batch[ACTION]
        losses = flow_losses(
            self.policy,
            self.dynamics,
            self.config.arm,
            *(x.repeat_interleave(draws, dim=0) for x in (context, action, outcome)),
            action_is_pad=padding(batch, ACTION, like=ACTION).repeat_interleave(draws, dim=0),
            outcome_is_pad=outcome_is_pad.repeat_interleave(draws, dim=0),
            feedback_dropout=self.config.feedback_dropout,
            imitate=imitated(batch, self.config.dynamics_only_tasks, draws),
            align=self.config.align,
            teach_context=self.config.dynamics_teaches_encoder,
            time_alpha=self.config.time_alpha,
            outcome_from_noise=self.config.outcome_from_noise,
        )
        loss = (
            losses.policy
            + self.config.dynamics_weight * losses.dynamics
            + self.config.dynamics_true_weight * losses.dynamics_true
        )
        return loss, self._figures(self, losses, context, action, outcome)

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
        self._observing.reset()
        self._queues = self._observing.queues  # the name by which LeRobot's tools find a history
        self._queue: deque[Tensor] = deque(maxlen=self.config.n_action_steps)
        self._generator = None
        self._steps = 0
        self._remembered = Remembered(self)
        self._expectations = Expectations(self.config.outcome_offsets)
        self.diagnostics: Diagnostics | None = None
        self.last_verdict: Verdict | None = None
        if self._monitor is not None:
            self._monitor.reset()

    @torch.no_grad()
    def predict_action_chunk(self, batch: dict[str, Tensor], **kwargs: Any) -> Float[Tensor, "B H A"]:
        """A chunk of normalised actions for each row, whole.

        Args:
            batch: images `[B, C, height, width]` in [0, 1] and normalised state `[B, D]`.
            kwargs: `noise` `[B, H, A]` fixes the action flow's noise. For real-time chunking,
                `prev_chunk_left_over` `[B, k, A]` or `[k, A]`: normalised actions that are still to be executed, the
                first at the observation's time; and `inference_delay`: how many of them will be executed before
                this chunk is there. It begins with those, and goes on from them.
        """
        noise = kwargs.get("noise")
        left_over = executable(kwargs.get("prev_chunk_left_over"), self.config.horizon)
        options = getattr(self.config, "rtc_config", None)
        if left_over is None or (options is not None and not options.enabled):
            return self.generate(batch, action_noise=noise).action
        delay = int(kwargs.get("inference_delay") or 0)
        guide = guidance(options, left_over, delay, self.config.num_inference_steps)
        return continued(self.generate(batch, action_noise=noise, guide=guide).action, left_over, delay)

    def supports_rtc(self) -> bool:
        """Whether chunks can continue others: where one observation is enough, since LeRobot shows no more then."""
        return bool(self.config.n_obs_steps == 1)

    @torch.no_grad()
    def generate(
        self,
        batch: dict[str, Tensor],
        action_noise: Float[Tensor, "B H A"] | None = None,
        outcome_noise: Float[Tensor, "B N W"] | None = None,
        guide: Guide | None = None,
    ) -> Sample:
        """As `predict_action_chunk`, with the outcome `[B, O, S]` that the dynamics expects of the chunk.

        Args:
            action_noise: a chunk for this noise alone; without it, one of `candidates`.
            guide: of `flow.sample`; a guided flow is never compiled.
        """
        self.eval()
        self._observing.overlook_task(batch)
        observation = self._observing.recall(batch)
        count = self.config.candidates if action_noise is None and guide is None else 1
        rows = count * len(next(iter(observation.values())))
        if action_noise is None:
            action_noise = self._noise(rows, *self.chunk_shape)
        if outcome_noise is None:
            outcome_noise = self._noise(rows, *self.outcome_shape)
        if guide is not None:
            return self._flow(observation, action_noise, outcome_noise, guide)
        if self._generate is None:
            self._generate = compiled(self._flow, action_noise.device) if self.config.compile_model else self._flow
        done = self._generate(observation, action_noise, outcome_noise)
        return done if count == 1 else chosen(done, count, Choice(self.config.choose), self._remembered.outcomes)

    @torch.no_grad()
    def expected_outcome(
        self,
        batch: dict[str, Tensor],
        action: Float[Tensor, "B H A"],
        outcome_noise: Float[Tensor, "B N W"] | None = None,
        context: Float[Tensor, "B D"] | None = None,
    ) -> Float[Tensor, "B O S"]:
        """The outcome that the dynamics expects of a given chunk of normalised actions.

        Args:
            context: what `context_now` says of the batch, if it was asked already.
            outcome_noise: where its flow starts; by default in the middle of the noise, so that the answer is always
                the same and no noise is drawn, on which later actions would depend.

        Raises:
            UserError: this arm has no dynamics.
        """
        if not self.config.arm.learns_dynamics:
            raise UserError("coupling none has no dynamics model, and so expects nothing of a chunk")
        if outcome_noise is None:
            outcome_noise = action.new_zeros(len(action), *self.outcome_shape)
        arm, steps = self.config.arm, self.config.outcome_steps
        context = self.context_now(batch) if context is None else context
        return self._by_offset(outcome_of(self.dynamics, arm, context, action, outcome_noise, steps))

    @torch.no_grad()
    def observed_outcome(self, batch: dict[str, Tensor]) -> Float[Tensor, "B S"]:
        """What the dynamics would have had to expect, for the observation now to be what came of a chunk."""
        self.eval()
        seen: Tensor = self.standardize(
            self._outcome_features({key: self._observing.now(batch[key]) for key in self._observing.keys})
        )
        return seen

    def _by_offset(self, outcome: Float[Tensor, "B N W"]) -> Float[Tensor, "B O S"]:
        return outcome.reshape(len(outcome), len(self.config.outcome_offsets), self.outcome_dim)

    def _flow(
        self,
        observation: dict[str, Tensor],
        action_noise: Tensor,
        outcome_noise: Tensor,
        guide: Guide | None = None,
    ) -> Sample:
        """One encoder pass and K coupled steps: what is compiled. Candidates of one observation share the pass."""
        context = self.context(observation)
        count = len(action_noise) // len(context)
        context = context.repeat(count, 1)
        arm, noise, how = self.config.arm, (action_noise, outcome_noise), self.config.generation
        if guide is None and self.config.steer:
            guide = self._remembered.guide(context)
        done = sample(self.policy, self.dynamics, arm, context, *noise, guide=guide, **how)
        outcome, judged = done.outcome, count > 1 and self.config.choose == Choice.OUTCOME
        if judged or (self.config.diagnostics and outcome is None and arm.learns_dynamics):
            outcome = self.expected_outcome(observation, done.action, context=context)
        return Sample(done.action, None if outcome is None else self._by_offset(outcome), done.estimates)

    @torch.no_grad()
    def select_action(self, batch: dict[str, Tensor], **kwargs: Any) -> Float[Tensor, "B A"]:
        """The next normalised action of each row; plans a new chunk when the last one is used up."""
        self._observing.remember(batch)
        if not self._queue:
            noted, noise = self.config.diagnostics, kwargs.get("noise")
            chunk = self._noted(batch, noise) if noted else self.predict_action_chunk(batch, **kwargs)
            if self.config.monitor:
                self._monitor = self._monitor or Monitor.load(self.folder)
                self.last_verdict = self._monitor.look(self, batch, chunk, steps=[self._steps] * len(chunk))
            self._queue.extend(chunk[:, : self.config.n_action_steps].unbind(dim=1))
        if self.config.diagnostics:
            self.diagnostics = self._expectations.at(self._steps, partial(self.observed_outcome, batch))
        self._steps += 1
        return self._queue.popleft()

    def _noted(self, batch: dict[str, Tensor], noise: Tensor | None) -> Float[Tensor, "B H A"]:
        """A chunk, with a note of how it came about."""
        done = self.generate(batch, action_noise=noise)
        self._expectations.planned(self._steps, done.estimates, done.outcome)
        return done.action

    def _noise(self, *shape: int) -> Tensor:
        device = next(self.parameters()).device
        if self._generator is None and self.config.inference_seed is not None:
            self._generator = torch.Generator(device=device).manual_seed(self.config.inference_seed)
        return torch.randn(shape, device=device, generator=self._generator)

    # Observations

    def context(self, batch: dict[str, Tensor], augment: bool = False) -> Float[Tensor, "B D"]:
        """The encoding z of what was observed up to now, and of nothing later: images, then states."""
        parts = []
        if self.encoder.cameras:
            images = {camera: self._observing.history(batch[camera]) for camera in self.encoder.cameras}
            if augment:
                c = self.config
                how = c.image_size, c.image_shift, c.image_light, c.image_hue, c.augmented_share
                images = {camera: augmented(frames, *how) for camera, frames in images.items()}
            frames = self.encoder({camera: image.flatten(0, 1) for camera, image in images.items()})
            parts.append(frames.unflatten(0, (-1, self.config.n_obs_steps)).flatten(1))
        if self.state_dim:
            parts.append(self._observing.history(batch[OBS_STATE]).flatten(1))
        return torch.cat(parts, dim=-1)

    @torch.no_grad()
    def context_now(self, batch: dict[str, Tensor]) -> Float[Tensor, "B D"]:
        """As `context`, of one observation and the history of it that `select_action` has built up."""
        self.eval()
        return self.context(self._observing.recall(batch))

    @torch.no_grad()
    def _outcome(
        self, batch: dict[str, Tensor], context: Float[Tensor, "B D"]
    ) -> tuple[Float[Tensor, "B N W"], Bool[Tensor, "B N"]]:
        """The standardised outcome of each row, and which of it lies past the episode's end."""
        B, (N, W) = len(context), self.outcome_shape
        if not self.config.arm.learns_dynamics:
            return context.new_zeros(B, N, W), torch.ones(B, N, dtype=torch.bool, device=context.device)
        times = self.config.observation_delta_indices
        first = self._observing.keys[0]
        frames = batch[first]
        if frames.ndim == len(self.config.input_features[first].shape) + 1 or frames.shape[1] != len(times):
            raise UserError(
                f"the batch holds no {first} at the steps {times} from now; coupling {self.config.coupling} needs them"
            )
        index = [times.index(offset) for offset in self.config.outcome_offsets]
        raw = self._outcome_features({key: batch[key][:, index].flatten(0, 1) for key in self._observing.keys})
        past_end = padding(batch, "observation.", like=first)[:, index]
        if self.memory is not None and self.training:
            shown = imitated(batch, self.config.dynamics_only_tasks, 1)
            whole = ~past_end.any(dim=1) if shown is None else shown & ~past_end.any(dim=1)
            self.memory.remember(raw.reshape(B, -1)[whole])
        return self.standardize(raw).reshape(B, N, W), past_end.repeat_interleave(N // len(index), dim=1)

    def _outcome_features(self, observation: dict[str, Tensor]) -> Float[Tensor, "B S"]:
        """An observation `[B, …]` as the averaged encoder sees it, not yet standardised."""
        parts = []
        if self.encoder.cameras:
            images = {camera: observation[camera] for camera in self.encoder.cameras}
            encoded = self.target_encoder(images, self.config.outcome_grid)
            parts.append(encoded if self.config.outcome_grid else encoded.unsqueeze(1))
        if self.state_dim:
            state = observation[OBS_STATE].unsqueeze(1)
            parts.append(state.expand(-1, parts[0].shape[1] if parts else 1, -1))
        return torch.cat(parts, dim=-1).flatten(1)

    # Checkpoints

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """LeRobot's card of a policy, with what this one is."""
        card: ModelCard = super().generate_model_card(*args, **kwargs)
        networks = {"encoder": self.encoder, "policy": self.policy, "dynamics": self.dynamics}
        card.text += account(self.config, networks, int(self.updates), self.recording)
        return card

    def _save_pretrained(self, save_directory: Path, state_dict: dict[str, Tensor] | None = None) -> None:
        super()._save_pretrained(save_directory, state_dict=state_dict)
        if self.recording is not None:
            write_json(Path(save_directory) / RECORDING_FILE, self.recording)

    @classmethod
    def from_pretrained(cls, pretrained_name_or_path: str | Path, **kwargs: Any) -> DAPPolicy:
        """LeRobot's, which has the Hub send configuration and weights alone."""
        fetch_recording(pretrained_name_or_path, **kwargs)
        made: DAPPolicy = super().from_pretrained(pretrained_name_or_path, loads=True, **kwargs)
        if made.folder is not None and kwargs.get("dataset_meta") is None:  # a dataset has an account of its own
            made.recording = read_recording(made.folder)
        return made

    @classmethod
    def _load_as_safetensor(cls, model: DAPPolicy, model_file: str, map_location: str, strict: bool) -> DAPPolicy:
        load_all(model, Path(model_file))
        model.folder = Path(model_file).parent
        return model
