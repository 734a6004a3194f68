"""Messages of the openpi protocol: msgpack with NumPy arrays, decoded within bounds.

An array is the map `{b"__ndarray__": True, b"data": bytes, b"dtype": "<f4", b"shape": [2, 3]}`, a NumPy scalar
`{b"__npgeneric__": True, b"data": 1.5, b"dtype": "<f4"}`; these keys are bytes, others text in UTF-8. Nothing here can
name a class or run code: dtypes come from a list, objects are not on it, and msgpack's extension types are refused.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import msgpack  # type: ignore[import-untyped]
import numpy as np

from .refusals import Reason, Refused

DTYPES = frozenset(
    ("|b1", "|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8"),
)
"""What arrays may hold, as NumPy spells it."""

_ARRAY_KEYS = {b"__ndarray__", b"data", b"dtype", b"shape"}
_SCALAR_KEYS = {b"__npgeneric__", b"data", b"dtype"}


class Limits(NamedTuple):
    """What a message may be at most."""

    size: int = 64 * 2**20
    """Bytes of the whole message."""
    values: int = 4096
    """Values in it, keys and containers counted; an array's elements are not."""
    depth: int = 8
    """Containers inside containers."""
    text: int = 8192
    """Bytes of one text."""
    dimensions: int = 6
    """Of one array."""


def encode(message: dict[str, Any]) -> bytes:
    """The message as bytes; raises `ValueError` or `TypeError` for what the protocol cannot say."""
    packed: bytes = msgpack.packb(message, default=_pack)
    return packed


def decode(data: bytes, limits: Limits | None = None) -> dict[str, Any]:
    """The message in `data`. Arrays are read-only views into it.

    The bytes are walked once before anything is built: msgpack bounds each container but not their sum, and one
    byte of input can be an object of sixty.

    Raises:
        Refused: `malformed_message` or `message_too_large`, with what is wrong.
    """
    limits = limits or Limits()
    if len(data) > limits.size:
        raise Refused(
            Reason.MESSAGE_TOO_LARGE, f"the message has {len(data)} bytes; at most {limits.size} are taken"
        )
    _walk(data, limits)
    try:
        message = msgpack.unpackb(
            data, object_hook=lambda item: _unpack(item, limits), strict_map_key=True, raw=False
        )
    except Refused:
        raise
    except Exception as error:  # msgpack raises ValueError, UnicodeDecodeError and classes of its own
        raise _malformed(f"not valid msgpack ({error})") from error
    if not isinstance(message, dict) or not all(isinstance(key, str) for key in message):
        raise _malformed("a message is one map with text keys")
    return message


# msgpack's first bytes: how many bytes of a number follow, and how many hold the length of a body or a container.
_NUMBER_BYTES = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_BIN_LENGTH = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_TEXT_LENGTH = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_LIST_LENGTH = {0xDC: 2, 0xDD: 4}
_MAP_LENGTH = {0xDE: 2, 0xDF: 4}
_LENGTHS = _BIN_LENGTH | _TEXT_LENGTH | _LIST_LENGTH | _MAP_LENGTH
_SINGLE = {0xC0, 0xC2, 0xC3}  # nil, false, true


def _walk(data: bytes, limits: Limits) -> None:
    """Raises `Refused` unless `data` is one whole msgpack value within the limits; allocates nothing of its size."""
    at, seen, waiting = 0, 0, [1]  # waiting: values still to come in each open container
    while waiting:
        if not waiting[-1]:
            waiting.pop()
            continue
        waiting[-1] -= 1
        seen += 1
        if at >= len(data):
            raise _malformed("it ends in the middle of a value")
        head = data[at]
        at += 1
        length = 0
        if head in _LENGTHS:
            length = int.from_bytes(data[at : at + _LENGTHS[head]], "big")
            at += _LENGTHS[head]
        body = children = 0
        if head in _NUMBER_BYTES:
            body = _NUMBER_BYTES[head]
        elif head in _BIN_LENGTH:
            body = length
        elif head in _TEXT_LENGTH or 0xA0 <= head <= 0xBF:
            body = length if head in _TEXT_LENGTH else head & 0x1F
            if body > limits.text:
                raise _malformed(f"a text has {body} bytes; at most {limits.text} are taken")
        elif head in _LIST_LENGTH or 0x90 <= head <= 0x9F:
            children = length if head in _LIST_LENGTH else head & 0x0F
        elif head in _MAP_LENGTH or 0x80 <= head <= 0x8F:
            children = 2 * (length if head in _MAP_LENGTH else head & 0x0F)
        elif not (head <= 0x7F or head >= 0xE0 or head in _SINGLE):
            raise _malformed(f"byte 0x{head:02x} starts an extension type, which this protocol has none of")
        at += body
        if at > len(data):
            raise _malformed("it ends in the middle of a value")
        if seen + children > limits.values:
            raise _malformed(f"it holds more than {limits.values} values")
        if children:
            waiting.append(children)
            if len(waiting) > limits.depth + 1:
                raise _malformed(f"containers are nested more than {limits.depth} deep")
    if at != len(data):
        raise _malformed(f"{len(data) - at} bytes follow its end")


def _pack(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        dtype = value.dtype.newbyteorder("<") if value.dtype.byteorder == ">" else value.dtype
        if dtype.str not in DTYPES:
            raise ValueError(f"arrays of {value.dtype} are not in the protocol")
        if isinstance(value, np.generic):
            return {b"__npgeneric__": True, b"data": value.item(), b"dtype": dtype.str}
        array = value.astype(dtype, copy=False)
        return {b"__ndarray__": True, b"data": array.tobytes(), b"dtype": dtype.str, b"shape": array.shape}
    raise TypeError(f"{type(value).__name__} is not in the protocol")


def _unpack(item: dict[Any, Any], limits: Limits) -> Any:
    if b"__ndarray__" in item:
        return _array(item, limits)
    if b"__npgeneric__" in item:
        return _scalar(item)
    return item


def _array(item: dict[Any, Any], limits: Limits) -> Any:
    if item.keys() != _ARRAY_KEYS:
        raise _malformed("an array is a map of __ndarray__, data, dtype and shape")
    data, shape, dtype = item[b"data"], item[b"shape"], _dtype(item[b"dtype"])
    if not isinstance(data, bytes):
        raise _malformed("an array's data is not bytes")
    if not isinstance(shape, list) or len(shape) > limits.dimensions:
        raise _malformed(f"an array's shape is not a list of at most {limits.dimensions} sizes")
    if not all(type(size) is int and 0 <= size <= limits.size for size in shape):
        raise _malformed("an array's sizes are not whole numbers within the size of a message")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise _malformed(f"an array of shape {shape} and dtype {dtype.str} does not have {len(data)} bytes")
    if dtype.kind == "b" and np.frombuffer(data, np.uint8).max(initial=0) > 1:
        raise _malformed("an array of booleans holds bytes other than 0 and 1")
    return np.frombuffer(data, dtype=dtype).reshape(shape)


def _scalar(item: dict[Any, Any]) -> Any:
    if item.keys() != _SCALAR_KEYS:
        raise _malformed("a NumPy scalar is a map of __npgeneric__, data and dtype")
    data, dtype = item[b"data"], _dtype(item[b"dtype"])
    if not isinstance(data, bool | int | float):
        raise _malformed("a NumPy scalar's data is not a number")
    if dtype.kind in "iu" and not (isinstance(data, int) and np.iinfo(dtype).min <= data <= np.iinfo(dtype).max):
        raise _malformed(f"{data} is no {dtype.name}")
    return dtype.type(data)


def _dtype(name: Any) -> np.dtype[Any]:
    if not isinstance(name, str) or name not in DTYPES:
        raise _malformed(f"dtype {str(name)[:20]!r} is not taken; use one of {', '.join(sorted(DTYPES))}")
    return np.dtype(name)


def _malformed(what: str) -> Refused:
    return Refused(Reason.MALFORMED_MESSAGE, what)
