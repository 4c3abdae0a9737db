import math

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from lerobot_robot_backend.spool.extra import encode_extra
from lerobot_robot_backend.spool.record import MAX_TAIL_BYTES


def decode(encoded: bytes) -> object:
    return msgspec.msgpack.decode(encoded)


def test_plain_values_are_kept():
    """What JSON can say is kept as it is."""
    extra = {"current": 1.5, "ok": True, "none": None, "list": [1, 2.5, "x"], "deep": {"a": {"b": -3}}}
    assert decode(encode_extra(extra)) == extra


def test_strange_values_become_text():
    """NaN becomes null; infinities, huge integers, pictures and objects are told in words, not refused."""
    extra = decode(
        encode_extra(
            {
                "nan": math.nan,
                "inf": np.float32("-inf"),
                "huge": 10**30,
                "picture": np.zeros((480, 640, 3), np.uint8),
                "object": object(),
                7: b"raw",
            }
        )
    )
    assert extra == {
        "nan": None,
        "inf": "-Infinity",
        "huge": "1" + "0" * 30,
        "picture": "<ndarray of shape (480, 640, 3): not recorded>",
        "object": "<object: not recorded>",
        "7": "<bytes: not recorded>",
    }


def test_small_arrays_become_lists():
    """A vector of a few numbers is kept as numbers."""
    assert decode(encode_extra({"force": np.array([1.0, 2.0]), "one": np.float32(0.5)})) == {
        "force": [1.0, 2.0],
        "one": 0.5,
    }


def test_text_that_no_database_takes_is_cleaned():
    """NUL and lone surrogates are replaced."""
    assert decode(encode_extra({"a\0b": "x\0y\ud800z"})) == {"a\ufffdb": "x\ufffdy?z"}


def test_too_much_is_named_not_kept():
    """An extra that is too large costs itself, never the frame."""
    kept = decode(encode_extra({"log": "x" * MAX_TAIL_BYTES}))
    assert list(kept) == ["not_recorded"]
    assert "log" in kept["not_recorded"]


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=30,
)


@given(st.dictionaries(st.text(), json_like, max_size=5))
def test_anything_can_be_encoded(extra):
    """Whatever a robot hands over, it is encoded, and within the limit."""
    encoded = encode_extra(extra)
    assert len(encoded) <= MAX_TAIL_BYTES
    assert isinstance(decode(encoded), dict)
