"""What a checkpoint wants to see, and the reading of observations against it."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from lerobot.configs import FeatureType, PreTrainedConfig
from numpy.typing import NDArray

from ..errors import UserError
from ..observing import shown_inputs
from .refusals import Reason, Refused

_IMAGE_DTYPES = ("uint8", "float16", "float32", "float64")
_VECTOR_DTYPES = ("float16", "float32", "float64")
_LONGEST_TOKEN = 64  # characters


class Request(NamedTuple):
    """One validated request for a chunk."""

    frames: dict[str, NDArray[Any]]
    """By the checkpoint's names, `[T, …]`: T is 1, or `n_obs_steps` where the client keeps the history itself.
    Images are uint8 `[T, H, W, C]` or floating point in [0, 1] `[T, C, H, W]`."""
    task: str
    timestamp: float | None
    """When the observation was made, seconds of the client's clock."""
    reset: bool
    """An episode begins: forget what this client showed before."""
    inference_delay: int
    """Control steps that pass before the answer can be executed, as the client expects."""
    left_over: NDArray[np.float32] | None
    """`[k, A]`, robot units: what the client has still to execute; row 0 is executed at the observation's time."""
    last_action: NDArray[np.float32] | None
    """`[A]`, robot units: the command before the observation."""
    step: int | None = None
    """Actions of chunks that were executed since the episode began, where the client counts them."""
    episode: Hashable = None
    """Whose episode it is of: the client's token, or else the server's own name for it."""


@dataclass(frozen=True)
class Contract:
    """The checkpoint's side of a conversation.

    Args:
        images: shape `(C, H, W)` of each camera's frames.
        vectors: length of each other observation.
        action_dim: A.
        n_obs_steps: observations that the policy looks at.
        rename: the client's name of a feature → the checkpoint's.
    """

    images: Mapping[str, tuple[int, int, int]]
    vectors: Mapping[str, int]
    action_dim: int
    n_obs_steps: int
    rename: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, config: PreTrainedConfig, rename: Mapping[str, str]) -> Contract:
        """The contract of a policy's configuration.

        Raises:
            UserError: `rename` leads to no feature of the policy, or the policy has no action.
        """
        images, vectors = {}, {}
        for key, feature in shown_inputs(config).items():
            if feature.type is FeatureType.VISUAL:
                channels, height, width = feature.shape
                images[key] = (channels, height, width)
            else:
                vectors[key] = math.prod(feature.shape)
        for theirs, ours in rename.items():
            if ours not in images and ours not in vectors:
                known = ", ".join([*images, *vectors])
                raise UserError(f"--rename {theirs}={ours}: the checkpoint has no {ours}; it has: {known}")
        if config.action_feature is None:
            raise UserError("the checkpoint gives no 'action'; it cannot be served")
        return cls(images, vectors, config.action_feature.shape[0], config.n_obs_steps, dict(rename))

    def name(self, feature: str) -> str:
        """What clients call a feature."""
        return next((theirs for theirs, ours in self.rename.items() if ours == feature), feature)

    def describe(self) -> dict[str, Any]:
        """For the metadata that a client gets on connecting: how each feature is to be sent."""
        images = {
            self.name(key): {"kind": "image", "height": height, "width": width, "channels": channels}
            for key, (channels, height, width) in self.images.items()
        }
        return images | {self.name(key): {"kind": "vector", "length": n} for key, n in self.vectors.items()}

    def example(self) -> dict[str, NDArray[Any]]:
        """A grey observation at rest, in the checkpoint's names, with a time axis of length 1."""
        frames: dict[str, NDArray[Any]] = {
            key: np.full((1, height, width, channels), 128, np.uint8)
            for key, (channels, height, width) in self.images.items()
        }
        return frames | {key: np.zeros((1, n), np.float32) for key, n in self.vectors.items()}

    @property
    def observation_bytes(self) -> int:
        """Bytes of a whole history in double precision: more than any sensible client sends."""
        numbers = sum(math.prod(shape) for shape in self.images.values()) + sum(self.vectors.values())
        return 8 * numbers * self.n_obs_steps

    def read(self, message: Mapping[str, Any]) -> Request:
        """The request in a decoded message; whatever else the message holds is left alone.

        Raises:
            Refused: a feature is missing or not as the checkpoint wants it; the message names it.
        """
        flat = _flatten(message)
        frames = {}
        for key in (*self.images, *self.vectors):
            name = self.name(key)
            if name not in flat:
                sent = ", ".join(k for k, v in flat.items() if isinstance(v, np.ndarray)) or "no arrays"
                raise Refused(Reason.MISSING_FEATURE, f"{name} is missing; the message has: {sent}")
            value = flat[name]
            if not isinstance(value, np.ndarray):
                raise Refused(Reason.WRONG_TYPE, f"{name} is {type(value).__name__}; send a NumPy array")
            frames[key] = (
                self._image(name, value, self.images[key])
                if key in self.images
                else self._vector(name, value, self.vectors[key])
            )
        lengths = {self.name(key): len(frame) for key, frame in frames.items()}
        if len(set(lengths.values())) > 1:
            raise Refused(Reason.WRONG_SHAPE, f"the features show different numbers of steps: {lengths}")
        return Request(
            frames,
            task=_text(flat, "task") or _text(flat, "prompt"),
            timestamp=_seconds(flat.get("timestamp")),
            reset=_flag(flat.get("reset"), "reset"),
            inference_delay=_steps(flat.get("inference_delay", 0), "inference_delay", 1024),
            left_over=self._actions(flat.get("prev_chunk_left_over"), "prev_chunk_left_over", 2),
            last_action=self._actions(flat.get("last_action"), "last_action", 1),
            step=None if flat.get("step") is None else _steps(flat["step"], "step", 2**31),
            episode=_token(flat),
        )

    def _image(self, name: str, value: NDArray[Any], shape: tuple[int, int, int]) -> NDArray[Any]:
        channels, height, width = shape
        if value.dtype.name not in _IMAGE_DTYPES:
            raise Refused(Reason.WRONG_DTYPE, f"{name} is {value.dtype}; send uint8 [H, W, C] or float [C, H, W]")
        last, first = (height, width, channels), (channels, height, width)
        wanted, other = (last, first) if value.dtype == np.uint8 else (first, last)
        order = "height, width, channels" if value.dtype == np.uint8 else "channels, height, width"
        value = self._timed(name, value, 3)
        got = value.shape[1:]
        if got != wanted:
            if got == other:
                raise Refused(
                    Reason.WRONG_CHANNEL_ORDER,
                    f"{name} is {_by(got)}; {value.dtype} images are sent as ({order}), here {_by(wanted)}",
                )
            if got[-1 if value.dtype == np.uint8 else 0] == channels:
                raise Refused(
                    Reason.WRONG_IMAGE_SIZE,
                    f"{name} is {_by(got)}; the checkpoint needs {_by(wanted)} ({order}): resize before sending",
                )
            raise Refused(
                Reason.WRONG_SHAPE, f"{name} is {_by(got)}; the checkpoint needs {_by(wanted)} ({order})"
            )
        if value.dtype != np.uint8:
            self._finite(name, value)
            if value.size and (value.min() < 0 or value.max() > 1):
                raise Refused(
                    Reason.OUT_OF_RANGE,
                    f"{name} lies between {value.min():.3g} and {value.max():.3g}; float images lie in [0, 1]",
                )
        return value

    def _vector(self, name: str, value: NDArray[Any], length: int) -> NDArray[Any]:
        if value.dtype.name not in _VECTOR_DTYPES:
            raise Refused(Reason.WRONG_DTYPE, f"{name} is {value.dtype}; send float32 or float64")
        value = self._timed(name, value, 1)
        if value.shape[1:] != (length,):
            raise Refused(
                Reason.WRONG_SHAPE, f"{name} has {_by(value.shape[1:])} numbers; the checkpoint needs {length}"
            )
        self._finite(name, value)
        return value.astype(np.float32)

    def _timed(self, name: str, value: NDArray[Any], ndim: int) -> NDArray[Any]:
        if value.ndim == ndim:
            return value[None]
        if value.ndim == ndim + 1 and len(value) in (1, self.n_obs_steps):
            return value
        steps = f" (or {ndim + 1} with {self.n_obs_steps} steps first)" if self.n_obs_steps > 1 else ""
        raise Refused(Reason.WRONG_SHAPE, f"{name} has shape {_by(value.shape)}; it needs {ndim} axes{steps}")

    def _actions(self, value: Any, name: str, ndim: int) -> NDArray[np.float32] | None:
        if value is None:
            return None
        if not isinstance(value, np.ndarray) or value.dtype.name not in _VECTOR_DTYPES:
            raise Refused(Reason.WRONG_DTYPE, f"{name} is no array of float32 or float64")
        if value.ndim != ndim or value.shape[-1] != self.action_dim or len(value) > 1024:
            shape = f"k x {self.action_dim}" if ndim == 2 else str(self.action_dim)
            raise Refused(Reason.WRONG_SHAPE, f"{name} has shape {_by(value.shape)}; it needs {shape}")
        self._finite(name, value)
        return value.astype(np.float32) if len(value) else None

    @staticmethod
    def _finite(name: str, value: NDArray[Any]) -> None:
        with np.errstate(over="ignore"):
            finite = np.isfinite(value.astype(np.float32))
        if not finite.all():
            raise Refused(
                Reason.NOT_FINITE,
                f"{name} holds NaN or infinity in {int((~finite).sum())} of {finite.size} places",
            )


def _flatten(message: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Maps inside the message become `outer/inner`, as openpi's own configurations name them."""
    flat: dict[str, Any] = {}
    for key, value in message.items():
        if isinstance(value, dict):
            flat |= _flatten({str(k): v for k, v in value.items()}, f"{before}{key}/")
        else:
            flat[f"{before}{key}"] = value
    return flat


def _text(flat: Mapping[str, Any], key: str) -> str:
    value = flat.get(key, "")
    if not isinstance(value, str):
        raise Refused(Reason.WRONG_TYPE, f"{key} is {type(value).__name__}; send text")
    return value


def _token(flat: Mapping[str, Any]) -> str | None:
    token = _text(flat, "episode_token")
    if len(token) > _LONGEST_TOKEN:
        raise Refused(
            Reason.OUT_OF_RANGE, f"episode_token has {len(token)} characters; send {_LONGEST_TOKEN} at most"
        )
    return token or None


def _flag(value: Any, name: str) -> bool:
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    if value is not None and not isinstance(value, bool | int | np.bool_ | np.integer):
        raise Refused(Reason.WRONG_TYPE, f"{name} is {type(value).__name__}; send True or False")
    return bool(value)


def _seconds(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise Refused(Reason.WRONG_TYPE, f"timestamp is {type(value).__name__}; send seconds as a number")
    if not math.isfinite(seconds := float(value)):
        raise Refused(Reason.NOT_FINITE, f"timestamp is {seconds}")
    return seconds


def _steps(value: Any, name: str, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise Refused(Reason.WRONG_TYPE, f"{name} is {type(value).__name__}; send whole control steps")
    if not 0 <= value <= most:
        raise Refused(Reason.OUT_OF_RANGE, f"{name} is {value}; it lies between 0 and {most} control steps")
    return int(value)


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a scalar"
