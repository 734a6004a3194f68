"""Messages as an attacker would send them: valid ones, changed, cut, repeated, spliced, and random bytes."""

import random
import struct

import msgpack
import numpy as np

from lerobot_policy_dap.runtime.refusals import Refused
from lerobot_policy_dap.runtime.wire import Limits, decode, encode

LIMITS = Limits(size=2**16)
NASTY = (
    b"\xdd\xff\xff\xff\xff",  # lists and maps of four billion
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",  # bytes and text of four gigabytes
    b"\xdb\xff\xff\xff\xff",
    b"\x91" * 600,  # deep
    b"\xdc\x0f\xff" + b"\x90" * 4095,  # wide
    b"\xc7\x04\x00abcd",  # extension types; -1 is msgpack's time stamp
    b"\xd6\xff\x00\x00\x00\x00",
    b"\xc1",
    b"\xcb" + struct.pack(">d", float("nan")),
    b"\x80\x04\x95cos\nsystem\n",  # the beginning of a pickle
    b"\xa2\xff\xfe",  # not UTF-8
)
DTYPES = (
    "|O",
    "O",
    "object",
    "<U8",
    "|S4",
    "|V8",
    "<c8",
    "<M8[s]",
    "f4,f4",
    ">f4",
    "<f4",
    "",
    "<f16",
    7,
    None,
    [["a", "<f4"]],
)
SHAPES = ([], [0], [2], [-1], [2**62, 4], [2**63], [2] * 40, [1.5], ["2"], None, 2, [True], [0, 2**40])


def seeds():
    """Valid messages to start from."""
    rng = np.random.default_rng(0)
    observation = {
        "observation.images.front": rng.integers(0, 256, (4, 5, 3), dtype=np.uint8),
        "observation.state": np.arange(3, dtype=np.float32),
        "timestamp": 1.5,
        "task": "open the drawer",
    }
    rtc = {**observation, "prev_chunk_left_over": np.ones((2, 2), np.float32), "inference_delay": np.int64(2)}
    return [
        encode(observation),
        encode(rtc),
        encode({"observation": {"state": np.float64(3)}, "reset": True}),
        encode({}),
    ]


def crafted(rng):
    """A message whose array or scalar lies about itself."""
    array = {
        b"__ndarray__": True,
        b"data": rng.choice([b"", b"\0" * 8, b"\xff" * 12, "text", 3, None]),
        b"dtype": rng.choice(DTYPES),
        b"shape": rng.choice(SHAPES),
    }
    scalar = {
        b"__npgeneric__": True,
        b"data": rng.choice([1, -1, 2**63, 1.5, True, "x", None]),
        b"dtype": rng.choice(DTYPES),
    }
    item = rng.choice([array, scalar])
    if rng.random() < 0.3:
        item.pop(rng.choice(list(item)))
    try:
        return msgpack.packb({rng.choice(["observation.state", b"x", 3]): item})
    except (OverflowError, ValueError):
        return b"\x81"


def mutated(rng, valid):
    """One malformed message; some come out well-formed."""
    kind = rng.randrange(8)
    data = bytearray(rng.choice(valid))
    at = rng.randrange(len(data))
    if kind == 0:
        return crafted(rng)
    if kind == 1:
        return rng.randbytes(rng.randrange(200))
    if kind == 2:
        return bytes(data[:at])
    if kind == 3:
        return bytes(data) + rng.randbytes(rng.randrange(1, 9))
    if kind == 4:
        data[at:at] = rng.choice(NASTY)
    elif kind == 5:
        data[at : at + rng.randrange(9)] = rng.choice(NASTY)
    elif kind == 6:
        other = rng.choice(valid)
        cut = rng.randrange(len(other))
        data[at:] = other[cut:]
    else:
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def messages(seed):
    """Endless mutated messages."""
    rng, valid = random.Random(seed), seeds()
    while True:
        yield mutated(rng, valid)


def check(data):
    """Decodes; returns whether the message was taken. Anything but a message or a `Refused` is a bug."""
    try:
        message = decode(data, LIMITS)
    except Refused:
        return False
    assert isinstance(message, dict)
    assert_plain(message)
    return True


def assert_plain(value):
    """Nothing but plain values and arrays of numbers comes out of the decoder."""
    if isinstance(value, dict):
        for key, item in value.items():
            assert type(key) in (str, bytes)
            assert_plain(item)
    elif isinstance(value, list):
        for item in value:
            assert_plain(item)
    elif isinstance(value, np.ndarray | np.generic):
        assert value.dtype.kind in "biuf"
    else:
        assert type(value) in (str, bytes, int, float, bool, type(None))
