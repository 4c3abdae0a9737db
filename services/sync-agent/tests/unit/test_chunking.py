"""Hashes and chunk lists of files that grow as LeRobot's do."""

import hashlib
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from teleop_schema.files import CHUNK_HASH_BYTES, CHUNK_RECORD_BYTES, MAX_DELTA_BYTES
from teleop_sync_agent.sending.chunking import Digest, ShortRead, digest, is_delta
from teleop_sync_agent.watching.snapshot import HeldBytes

CONTENT = random.Random(3).randbytes(3_000_000)


def records(chunks: bytes) -> list[tuple[int, bytes]]:
    return [
        (struct.unpack_from("<I", chunks, start)[0], chunks[start + 4 : start + CHUNK_RECORD_BYTES])
        for start in range(0, len(chunks), CHUNK_RECORD_BYTES)
    ]


def describes(made: Digest, content: bytes) -> bool:
    """Whether the records are, one after the other, those of the content."""
    offset = 0
    for length, name in records(made.chunks):
        if hashlib.sha256(content[offset : offset + length]).digest()[:CHUNK_HASH_BYTES] != name:
            return False
        offset += length
    return offset == len(content)


def make(content: bytes, *, anchor: int = 0, known: bytes = b"") -> Digest:
    return digest(HeldBytes(content), len(content), delta=True, anchor=anchor, known=known)


def new_bytes(made: Digest, earlier: Digest) -> int:
    """What a server that has the earlier state lacks."""
    have = set(records(earlier.chunks))
    return sum(length for length, name in records(made.chunks) if (length, name) not in have)


def test_hash_and_chunks():
    """The hash is that of the bytes, and the chunks make them up."""
    made = make(CONTENT)
    assert made.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert describes(made, CONTENT)


def test_appended_bytes_are_all_that_is_new():
    """A Parquet file that got another row group: exactly its bytes are missing."""
    state, made = CONTENT[:100_000], make(CONTENT[:100_000])
    for end in (180_001, 1_000_000, 1_000_007, 3_000_000):
        after = make(CONTENT[:end], known=made.anchored)
        assert new_bytes(after, made) == end - len(state)
        assert describes(after, CONTENT[:end])
        state, made = CONTENT[:end], after


def test_a_head_that_grows_costs_only_itself():
    """An mp4 whose moov grew: the new head and the new media bytes are missing, nothing else."""
    before = make(b"m" * 5_000 + CONTENT[:900_000], anchor=5_000)
    grown = b"n" * 7_123 + CONTENT[:1_200_000]
    after = make(grown, anchor=7_123, known=before.anchored)
    assert new_bytes(after, before) == 7_123 + 300_000
    assert describes(after, grown)


def test_without_memory_little_is_sent_twice():
    """If the earlier chunks are forgotten, cuts by content find most of them again."""
    before = make(b"m" * 5_000 + CONTENT[:2_000_000], anchor=5_000)
    after = make(b"n" * 7_123 + CONTENT[:2_300_000], anchor=7_123)
    assert new_bytes(after, before) < 7_123 + 300_000 + 2 * 256 * 1024


def test_a_small_file_that_is_rewritten_in_part():
    """info.json with other numbers in it: about the chunks with these numbers are missing."""
    lines = [f'"feature_{number}": {{"dtype": "float32", "shape": [{number}]}}' for number in range(200)]
    before, after = ("\n".join([*lines, f'"total_frames": {total}']).encode() for total in (100, 200))
    made = make(before, anchor=len(before))
    assert new_bytes(make(after, anchor=len(after), known=made.anchored), made) <= 4 * 1024 < len(after)


def test_other_bytes_are_never_taken_for_the_earlier_ones():
    """A file that was rewritten shares nothing, whatever is remembered of it."""
    before = make(CONTENT)
    after = make(CONTENT[::-1], known=before.anchored)
    assert describes(after, CONTENT[::-1])
    assert new_bytes(after, before) == len(CONTENT)


@given(content=st.binary(max_size=2000), anchor=st.integers(0, 3000), known=st.binary(max_size=200))
def test_whatever_is_remembered(content, anchor, known):
    """Nonsense in the agent's memory never makes a wrong list."""
    made = make(content, anchor=anchor, known=known)
    assert describes(made, content)
    assert made.sha256 == hashlib.sha256(content).hexdigest()


def test_a_source_that_ends_early():
    """A file that became shorter is noticed."""
    for delta in (False, True):
        with pytest.raises(ShortRead):
            digest(HeldBytes(b"abc"), 4, delta=delta)


def test_what_is_worth_comparing():
    """Parquet and mp4 up to the limit; what is rewritten as a whole is sent as a whole."""
    assert is_delta("data/chunk-000/file-000.parquet", 10)
    assert is_delta("videos/front/chunk-000/file-000.mp4", MAX_DELTA_BYTES)
    assert not is_delta("videos/front/chunk-000/file-000.mp4", MAX_DELTA_BYTES + 1)
    assert is_delta("meta/info.json", 3_000)
    assert not is_delta("meta/stats.json", 100_000)
    assert not is_delta("data/chunk-000/file-000.parquet", 0)
