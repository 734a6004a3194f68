"""Why a server does not answer with actions: a few names that programs compare and people read."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """The name of a refusal: the first word of an error on the wire, and a label of the metrics."""

    MALFORMED_MESSAGE = "malformed_message"
    MESSAGE_TOO_LARGE = "message_too_large"
    MISSING_FEATURE = "missing_feature"
    WRONG_TYPE = "wrong_type"
    WRONG_DTYPE = "wrong_dtype"
    WRONG_SHAPE = "wrong_shape"
    WRONG_CHANNEL_ORDER = "wrong_channel_order"
    WRONG_IMAGE_SIZE = "wrong_image_size"
    OUT_OF_RANGE = "out_of_range"
    NOT_FINITE = "not_finite"
    STALE_OBSERVATION = "stale_observation"
    UNSAFE_ACTION = "unsafe_action"
    ALARM = "alarm"
    TOO_SLOW = "too_slow"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    STALLED = "stalled"
    MODEL_FAILED = "model_failed"
    DRAINING = "draining"
    UNAUTHORIZED = "unauthorized"


AFTER_A_LOOK = frozenset({Reason.ALARM, Reason.UNSAFE_ACTION})
"""Refusals of what the policy made of an observation: the server has taken the request's `reset`."""


class Refused(Exception):  # noqa: N818 - an answer of the server, not a failure of the program
    """One request is refused; the connection goes on.

    Args:
        reason: its name.
        message: what is wrong, where, and how to mend it.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    @property
    def text(self) -> str:
        """As it stands on the wire: `reason: message`."""
        return f"{self.reason}: {self}"

    @classmethod
    def parse(cls, text: str) -> Refused:
        """The refusal in a text message of a server; a foreign server's text is a `model_failed`."""
        name, _, message = text.partition(": ")
        if name in list(Reason):
            return cls(Reason(name), message)
        return cls(Reason.MODEL_FAILED, text)
