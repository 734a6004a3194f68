"""A LeRobot checkpoint that answers several clients with one call."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lerobot.processor import AbsoluteActionsProcessorStep
from lerobot.utils.constants import ACTION, OBS_IMAGES
from numpy.typing import NDArray
from torch import Tensor

from ..checkpoints import WEIGHTS_FILE, checkpoint_folder, load_policy, policy_config
from ..errors import UserError
from ..files import sha256
from ..observing import observation_queues
from .contract import Contract, Request
from .limits import ActionLimits, Checked, OnUnsafe
from .refusals import Refused
from .watch import Judged, Watch

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelOptions:
    """How a checkpoint is loaded and its actions are bounded."""

    device: str = "cpu"
    rename: Mapping[str, str] = field(default_factory=dict)
    max_batch: int = 16
    """Requests answered by one call."""
    margin: float = 0.1
    """Part of the demonstrated range of each action dimension that is allowed beyond either end."""
    max_change: float = 1.0
    """Part of that range that is allowed from one action to the next."""
    on_unsafe: OnUnsafe = OnUnsafe.CLAMP


class Planned(NamedTuple):
    """The answer to one request, and how much of it was out of bounds."""

    checked: Checked
    version: str
    """First twelve digits of the weights' hash."""
    judged: Judged | None
    """What the monitor says; None without one."""


class ServedModel:
    """A policy with its processors, warmed up.

    Args:
        path: a checkpoint, or a training run, whose last one is taken.

    Raises:
        UserError: there is no whole checkpoint, or it cannot be served.
    """

    def __init__(self, path: Path, options: ModelOptions | None = None) -> None:
        self.options = options = options or ModelOptions()
        self.folder = folder = checkpoint_folder(path).resolve()
        self.config = config = policy_config(folder)
        config.device = options.device
        self.contract = Contract.of(config, options.rename)
        self.policy, self.preprocess, self.postprocess = load_policy(folder, config)
        self.weights = sha256(folder / WEIGHTS_FILE)
        self.watch = Watch.beside(folder, self.policy)
        self.limits = self._limits()
        self.supports_rtc = _supports_rtc(self.policy)
        self.chunk = self._warm_up()

    @property
    def n_action_steps(self) -> int:
        """Actions of a chunk that the policy was meant to execute before it looks again."""
        return min(int(getattr(self.config, "n_action_steps", self.chunk)), self.chunk)

    @property
    def raises_alarms(self) -> bool:
        """Whether its monitor was calibrated; without that a watch tells distances alone."""
        return self.watch is not None and self.watch.describe() is not None

    def metadata(self) -> dict[str, Any]:
        """What a client is told on connecting."""
        return {
            "policy": self.config.type,
            "weights": self.weights,
            "observation": self.contract.describe(),
            "action": {
                "length": self.contract.action_dim,
                "low": self.limits.low,
                "high": self.limits.high,
                "max_change": self.limits.step,
                "on_unsafe": str(self.limits.on_unsafe),
            },
            "n_obs_steps": self.contract.n_obs_steps,
            "chunk_size": self.chunk,
            "n_action_steps": self.n_action_steps,
            "supports_rtc": self.supports_rtc,
            "monitor": None if self.watch is None else self.watch.describe(),
        }

    def plan(self, requests: Sequence[Request]) -> list[Planned | Refused]:
        """A chunk for each request, or why there is none; at most `max_batch` requests.

        Without `inference_delay` and left-over the whole batch is one call. A policy that knows real-time chunking
        is called once for each pair of delay and length of left-over.
        """
        answers: list[Planned | Refused] = []
        order = sorted(range(len(requests)), key=lambda i: self._call_of(requests[i]))
        chunks: dict[int, NDArray[np.float32]] = {}
        judged: dict[int, Judged | None] = {}
        for _, members in groupby(order, key=lambda i: self._call_of(requests[i])):
            rows = list(members)
            actions, verdicts = self._chunks([requests[i] for i in rows])
            chunks |= dict(zip(rows, actions, strict=True))
            judged |= dict(zip(rows, verdicts, strict=True))
        for i, request in enumerate(requests):
            actions = chunks[i] if self.supports_rtc else _with_left_over(chunks[i], request)
            try:
                checked = self.limits.check(actions, request.last_action)
                answers.append(Planned(checked, self.weights[:12], judged[i]))
            except Refused as refused:
                answers.append(refused)
        return answers

    def _call_of(self, request: Request) -> tuple[int, int]:
        if not self.supports_rtc or request.left_over is None:
            return (-1, 0)
        return request.inference_delay, len(request.left_over)

    @torch.inference_mode()
    def _chunks(self, requests: Sequence[Request]) -> tuple[NDArray[np.float32], list[Judged | None]]:
        """Actions `[B, n, A]` in robot units, and verdicts, of requests that belong in one call."""
        B, T = len(requests), self.contract.n_obs_steps
        batch: dict[str, Any] = {
            key: torch.cat([_tensor(request.frames[key], key in self.contract.images) for request in requests])
            for key in requests[0].frames
        }
        batch["task"] = [request.task for request in requests for _ in range(T)]
        guidance: dict[str, Any] = {}
        if self._call_of(requests[0])[0] >= 0:
            left_over = np.stack([request.left_over for request in requests if request.left_over is not None])
            # The normaliser of observations normalises actions too: the policy compares in its own units.
            batch[ACTION] = torch.from_numpy(left_over)
            guidance["inference_delay"] = requests[0].inference_delay
        batch = self.preprocess(batch)
        left_over = batch.pop(ACTION, None)
        if guidance:
            guidance["prev_chunk_left_over"] = left_over
        if T > 1:
            batch = {
                key: value.unflatten(0, (B, T)) if isinstance(value, Tensor) and len(value) == B * T else value
                for key, value in batch.items()
            }
        queues = observation_queues(self.policy)
        if queues:
            batch = self._fill(queues, batch, T)
        chunk = self.policy.predict_action_chunk(batch, **guidance)
        judged: list[Judged | None] = [None] * B
        if self.watch is not None and requests[0].episode is not None:
            judged = [*self.watch.judge(self.policy, batch, chunk, requests)]
        for queue in queues.values():
            queue.clear()
        actions: NDArray[np.float32] = self.postprocess(chunk).float().cpu().numpy()
        return actions, judged

    def _fill(self, queues: Mapping[str, Any], batch: dict[str, Any], T: int) -> dict[str, Any]:
        """Puts each client's history where the policy looks for it, as its own `select_action` would."""
        cameras = list(self.config.image_features)
        if cameras and OBS_IMAGES in queues:
            batch = {**batch, OBS_IMAGES: torch.stack([batch[key] for key in cameras], dim=-4)}
        for key, queue in queues.items():
            queue.clear()
            if key in batch:
                queue.extend(batch[key].unbind(dim=1) if T > 1 else [batch[key]])
        return batch

    def _limits(self) -> ActionLimits:
        if any(isinstance(step, AbsoluteActionsProcessorStep) and step.enabled for step in self.postprocess.steps):
            raise UserError(
                f"{self.folder} plans actions relative to the robot's state, and its statistics are of those; "
                "nothing says where the robot may go, so that it cannot be kept there: train it on absolute actions"
            )
        for step in self.postprocess.steps:
            stats = getattr(step, "stats", None) or {}
            if {"min", "max"} <= stats.get(ACTION, {}).keys():
                low, high = (np.asarray(stats[ACTION][name], np.float32).reshape(-1) for name in ("min", "max"))
                if low.shape == high.shape == (self.contract.action_dim,) and np.isfinite([low, high]).all():
                    o = self.options
                    return ActionLimits.around(low, high, o.margin, o.max_change, o.on_unsafe)
        raise UserError(
            f"{self.folder} does not say how far its demonstrations' actions went (no min and max of 'action' in the "
            "statistics of its postprocessor); without them actions cannot be bounded: train it with dataset statistics"
        )

    def _warm_up(self) -> int:
        """Calls the policy with every size that it may compile; returns its chunk's length."""
        T, A = self.contract.n_obs_steps, self.contract.action_dim
        frames = {key: np.repeat(value, T, axis=0) for key, value in self.contract.example().items()}
        request = Request(frames, "", None, False, 0, None, None)
        started = time.monotonic()
        sizes = set()
        most = self.options.max_batch
        compiles = getattr(self.config, "compile_model", False)
        powers = {2**n for n in range(most.bit_length())} if compiles else {1, 2}
        for rows in sorted(powers | {most}):
            episodes = [f"warming up {i}" for i in range(rows)]  # so that the monitor is called as well
            try:
                shape = self._chunks([request._replace(episode=episode) for episode in episodes])[0].shape
            except Exception as error:
                raise UserError(
                    f"{self.folder} ({self.config.type}) cannot be served: its predict_action_chunk failed on an "
                    f"example ({type(error).__name__}: {error})"
                ) from error
            if len(shape) != 3 or shape[0] != rows or shape[2] != A:
                raise UserError(
                    f"{self.folder} ({self.config.type}) cannot be served: for {rows} observations it gives actions "
                    f"of shape {shape}, not [{rows}, n, {A}]"
                )
            sizes.add(shape[1])
            if self.watch is not None:
                self.watch.forget(episodes)
        log.info("warmed up in %.1f s", time.monotonic() - started)
        return sizes.pop()


def _with_left_over(actions: NDArray[np.float32], request: Request) -> NDArray[np.float32]:
    """The chunk with its first `inference_delay` actions replaced by the left-over's.

    They are executed before the answer can arrive. The rest is the new plan alone: the mean of two plans that go
    round an obstacle on different sides goes through it.
    """
    if request.left_over is None or not request.inference_delay:
        return actions
    frozen = min(request.inference_delay, len(request.left_over), len(actions))
    return np.concatenate([request.left_over[:frozen], actions[frozen:]])


def _supports_rtc(policy: Any) -> bool:
    """Whether the policy knows real-time chunking, as LeRobot's own rollout asks."""
    if not (callable(getattr(policy, "supports_rtc", None)) and policy.supports_rtc()):
        return False
    try:
        inspect.signature(policy.predict_action_chunk).bind({}, inference_delay=0, prev_chunk_left_over=None)
    except TypeError:
        return False
    return True


def _tensor(frames: NDArray[Any], is_image: bool) -> Tensor:
    if is_image and frames.dtype == np.uint8:
        return torch.from_numpy(frames.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    return torch.from_numpy(frames.astype(np.float32))
