"""The decoder takes what openpi's clients send, and refuses everything else: no crash, no hang, bounded memory, no code."""

import itertools
import pickle
import tracemalloc

import hypothesis.extra.numpy as npst
import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wire_mutations import NASTY, check, messages, seeds

from lerobot_policy_dap.runtime.refusals import Reason, Refused
from lerobot_policy_dap.runtime.wire import DTYPES, Limits, decode, encode

arrays = st.sampled_from(sorted(DTYPES)).flatmap(
    lambda name: npst.arrays(np.dtype(name), npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)
plain = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
)
items = st.recursive(plain | arrays, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=8)  # fmt: skip


def same(one, two):
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, np.ndarray):
        return (
            one.dtype == two.dtype
            and one.shape == two.shape
            and np.array_equal(one, two, equal_nan=one.dtype.kind == "f")
        )
    return type(one) is type(two) and one == two


@given(st.dictionaries(st.text(max_size=20), items, max_size=6))
@settings(deadline=None)
def test_what_is_encoded_is_decoded(message):
    assert same(message, decode(encode(message)))


def test_the_format_is_openpis_byte_by_byte():
    """Written out by hand, as `openpi_client.msgpack_numpy` packs it."""
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    by_hand = {"x": {b"__ndarray__": True, b"data": array.tobytes(), b"dtype": "<f4", b"shape": (2, 3)}}
    by_hand["y"] = {b"__npgeneric__": True, b"data": 7, b"dtype": "<i8"}
    assert encode({"x": array, "y": np.int64(7)}) == msgpack.packb(by_hand)
    decoded = decode(msgpack.packb(by_hand))
    assert decoded["y"] == 7
    np.testing.assert_array_equal(decoded["x"], array)


def test_openpis_client_and_ours_read_each_other():
    theirs = pytest.importorskip("openpi_client.msgpack_numpy")
    message = {
        "image": np.ones((2, 3, 3), np.uint8),
        "state": np.float64(0.5),
        "prompt": "go",
        "big": np.ones(2, ">f4"),
    }
    assert same(decode(theirs.packb({**message, "big": np.ones(2, "<f4")})), theirs.unpackb(encode(message)))


def test_big_endian_arrays_are_sent_as_little_endian():
    np.testing.assert_array_equal(decode(encode({"x": np.arange(3, dtype=">f4")}))["x"], np.arange(3))


def test_objects_are_neither_sent_nor_taken():
    for value in (np.array([object()]), np.array(["text"]), np.ones(2, complex), object(), {1, 2}):
        with pytest.raises((ValueError, TypeError)):
            encode({"x": value})


class Trap:
    """Unpickled, it would leave a mark."""

    sprung = False

    def __reduce__(self):
        return (setattr, (Trap, "sprung", True))


def test_no_code_is_run():
    payload = pickle.dumps(Trap())
    for dtype in ("|O", "object", "|V8", "<U4"):
        with pytest.raises(Refused, match="dtype"):
            decode(msgpack.packb({"x": {b"__ndarray__": True, b"data": payload, b"dtype": dtype, b"shape": [1]}}))
    with pytest.raises(Refused, match="extension type"):
        decode(msgpack.packb({"x": msgpack.ExtType(42, payload)}))
    assert not Trap.sprung


@pytest.mark.parametrize("nasty", [n for n in NASTY if n[:1] != b"\xcb"], ids=lambda nasty: nasty[:4].hex())
def test_lies_about_size_and_depth_cost_nothing(nasty):
    tracemalloc.start()
    try:
        with pytest.raises(Refused) as refused:
            decode(b"\x81\xa1x" + nasty)
        assert refused.value.reason == Reason.MALFORMED_MESSAGE
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


def test_a_message_that_is_too_large_is_not_looked_at():
    with pytest.raises(Refused, match="at most 100 are taken") as refused:
        decode(b"\xc1" * 101, Limits(size=100))
    assert refused.value.reason == Reason.MESSAGE_TOO_LARGE


def test_an_array_of_no_size_with_a_huge_side_costs_nothing():
    array = {b"__ndarray__": True, b"data": b"", b"dtype": "<f4", b"shape": [0, 2**40]}
    with pytest.raises(Refused, match="sizes"):
        decode(msgpack.packb({"x": array}))


def test_thousands_of_mutated_messages_are_refused_or_read_within_bounded_memory():
    taken = 0
    tracemalloc.start()
    try:
        for data in itertools.islice(messages(seed=1), 4000):
            taken += check(data)
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0 < taken < 2000  # the mutations reach past the first byte, and do harm
    assert peak < 4 * 2**20
    assert now < 2**20


@given(st.binary(max_size=300))
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_random_bytes(data):
    check(data)


@given(st.sampled_from(seeds()), st.integers(0, 2**16), st.binary(max_size=12), st.integers(0, 12))
@settings(max_examples=500, deadline=None)
def test_spliced_bytes(valid, at, piece, removed):
    at %= len(valid)
    check(valid[:at] + piece + valid[at + removed :])


def test_a_large_message_of_many_values_is_refused_before_they_are_built():
    tracemalloc.start()
    try:
        many = b"\x81\xa1x\xdd\x00\xff\xff\xff" + b"\x90" * (2**24 - 100)
        before = tracemalloc.get_traced_memory()[0]
        with pytest.raises(Refused, match="more than 4096 values"):
            decode(many)
        assert tracemalloc.get_traced_memory()[1] - before < 2**25  # msgpack alone would take a gigabyte
    finally:
        tracemalloc.stop()
