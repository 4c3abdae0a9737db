"""The ring between recorder and encoder: what goes in comes out, or is refused; never half of it."""

import os
from collections import deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lerobot_robot_backend.video.picture_ring import DamagedRing, PictureRing, Reason, create_ring

CAPACITY = 4096
SIZES = st.tuples(st.integers(1, 20), st.integers(1, 20))
STEPS = st.lists(st.one_of(SIZES, st.just("read"), st.just("release")), max_size=120)


@pytest.fixture
def ring(tmp_path):
    """A ring with room for a few small pictures."""
    return create_ring(CAPACITY, tmp_path)


def picture(height: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@given(steps=STEPS)
def test_pictures_come_out_as_they_went_in(steps, tmp_path_factory):
    """Whatever the sizes and the order of calls: every picture that was taken in comes out once, in order,
    unchanged until it is released, and one is refused only if there really is no room."""
    ring = create_ring(CAPACITY, tmp_path_factory.getbasetemp())
    waiting, number = deque(), 0
    for step in steps:
        if step == "read" or step == "release":
            taken = ring.read()
            assert (taken is None) == (not waiting)
            if taken is None:
                continue
            seed, (height, width) = waiting[0]
            assert (taken.camera, taken.number, taken.frame_index, taken.captured_us) == (
                seed % 3, seed, 10 * seed, -seed,
            )  # fmt: skip
            np.testing.assert_array_equal(taken.pixels, picture(height, width, seed))
            if step == "release":
                ring.release(taken.end)
                waiting.popleft()
        else:
            done = ring.write(number % 3, number, 10 * number, -number, picture(*step, number), Reason.NONE)
            used = sum(3 * height * width + 127 for _, (height, width) in waiting)
            # A record never goes around the end: so at most one record's length is not to be had.
            assert done or used + 2 * (3 * step[0] * step[1] + 127) > CAPACITY
            if done:
                waiting.append((number, step))
            number += 1
    assert (ring.read() is None) == (not waiting)


def test_another_mapping_sees_the_same(ring):
    """The encoder maps the same memory by its file descriptor, and its releases make room for the writer."""

    other = PictureRing(os.dup(ring.fd))
    image = picture(16, 16, 1)
    written = 0
    while ring.write(0, written, written, 0, image, Reason.NONE):
        written += 1
    assert written > 1
    taken = other.read()
    np.testing.assert_array_equal(taken.pixels, image)
    end = taken.end
    del taken
    other.release(end)
    assert ring.write(0, written, written, 0, image, Reason.FULL)
    assert not other.closed
    ring.finish()
    assert other.closed
    other.close()


def test_picture_that_is_a_view_is_copied_as_it_looks(ring):
    """Cameras whose colours are swapped by a view give no contiguous arrays."""
    image = picture(8, 8, 2)[:, :, ::-1]
    assert ring.write(0, 0, 0, 0, image, Reason.NONE)
    np.testing.assert_array_equal(ring.read().pixels, image)


def test_damage_is_noticed(ring):
    """A record that was overwritten is never taken for a picture; given up, the ring works again."""
    assert ring.write(0, 0, 0, 0, picture(8, 8, 3), Reason.NONE)
    ring._data[8:16] = b"\xff" * 8
    with pytest.raises(DamagedRing):
        ring.read()
    ring.release_all()
    assert ring.read() is None
    assert ring.write(0, 1, 1, 0, picture(8, 8, 4), Reason.NONE)
    assert ring.read().number == 1


def test_account_is_kept_by_both_sides(ring):
    """What the writer saw and what the reader took are told apart, per camera."""
    ring.see(1, 5, 40, Reason.FULL)
    ring.take(1, 3, 21, 2)
    account = ring.account(1)
    assert (account.seen, account.seen_index, account.reason) == (5, 40, Reason.FULL)
    assert (account.taken, account.taken_index, account.recorded) == (3, 21, 2)
    assert ring.account(0).seen == 0
