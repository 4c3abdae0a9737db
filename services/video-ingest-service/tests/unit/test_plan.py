"""Which bytes of a file the server lacks."""

import hashlib
import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from teleop_schema.errors import BadInput
from teleop_video_ingest.uploads.plan import check_chunks, copied_ranges, missing_ranges

# Few different chunks, so that files share many of them.
CHUNKS = st.lists(st.sampled_from([b"a", b"bb", b"ccc", b"dddd", b"a" * 9]), max_size=30)


def records(chunks: list[bytes]) -> bytes:
    return b"".join(struct.pack("<I16s", len(c), hashlib.sha256(c).digest()[:16]) for c in chunks)


@given(CHUNKS, CHUNKS)
def test_file_is_made_of_both(chunks, base_chunks):
    """The base's bytes and the missing ones, each put where it belongs, are the file."""
    file, base = b"".join(chunks), b"".join(base_chunks)
    copied = copied_ranges(records(chunks), records(base_chunks))
    made = bytearray(len(file))
    for offset, length, base_offset in copied:
        made[offset : offset + length] = base[base_offset : base_offset + length]
    sent = b"".join(file[offset : offset + length] for offset, length in missing_ranges(copied, len(file)))
    for offset, length in missing_ranges(copied, len(file)):
        made[offset : offset + length], sent = sent[:length], sent[length:]
    assert (bytes(made), sent) == (file, b"")


@given(CHUNKS, CHUNKS)
def test_nothing_known_is_sent(chunks, base_chunks):
    """Exactly the chunks that the base does not hold are missing."""
    copied = copied_ranges(records(chunks), records(base_chunks))
    unknown = sum(len(chunk) for chunk in chunks if chunk not in base_chunks)
    assert sum(length for _, length in missing_ranges(copied, len(b"".join(chunks)))) == unknown


@given(CHUNKS, CHUNKS)
def test_ranges_are_ordered_and_joined(chunks, base_chunks):
    """Ranges ascend and neither overlap nor lie empty; missing ones never touch each other."""
    copied = copied_ranges(records(chunks), records(base_chunks))
    missing = missing_ranges(copied, len(b"".join(chunks)))
    for before, after in pairwise(copied):
        assert before[0] + before[1] <= after[0]
    for before, after in pairwise(missing):
        assert before[0] + before[1] < after[0]
    assert all(length > 0 for _, length, *_ in (*copied, *missing))


def test_the_same_file_is_one_range():
    """A file that begins like its base shares one range with it, not one per chunk."""
    chunks = [bytes([n]) * (n + 1) for n in range(20)]
    assert copied_ranges(records([*chunks, b"new"]), records(chunks)) == [(0, 210, 0)]


@given(CHUNKS)
def test_whole_chunk_lists_are_taken(chunks):
    """A list that makes up the file is right, and so is none at all."""
    check_chunks(records(chunks), len(b"".join(chunks)))
    check_chunks(b"", 77)


@pytest.mark.parametrize(
    ("chunks", "size"),
    [(records([b"a"])[:-1], 1), (records([b"a"]), 2), (records([b"a", b""]), 1), (b"x" * 20, 5)],
)
def test_wrong_chunk_lists_are_named(chunks, size):
    """Records that are torn, empty, or of a file of another size are refused by name."""
    with pytest.raises(BadInput) as refused:
        check_chunks(chunks, size)
    assert refused.value.field == "chunks"
