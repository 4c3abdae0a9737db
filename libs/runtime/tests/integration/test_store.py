"""What every store promises, held against each of them."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from teleop_runtime.store import (
    Checksum,
    ChecksumMismatch,
    ObjectMissing,
    OffsetMismatch,
    Recipe,
    Store,
    UnknownUpload,
    UploadBusy,
)
from teleop_schema.errors import BodyTooLarge
from teleop_testing.datasets.files import sha256_of
from teleop_testing.datasets.storing import begun, content_of, parts_of, stored

MIB = 1024 * 1024
# A file system's clock ticks, a bucket's counts seconds.
CLOCKS_APART_S = 60.0
NOBODY = "0" * 64


@pytest.mark.parametrize("size", [0, 1, MIB, 5 * MIB, 11 * MIB + 7])
async def test_comes_back_as_it_went_in(store, size):
    """An object of any size is read back byte for byte, as a stream, in ranges and as a file."""
    content = os.urandom(size)
    sha256 = await stored(store, content)
    assert await store.size(sha256) == size
    assert await content_of(store, sha256) == content
    for start, end in ((0, 1), (size // 3, size // 2), (size - 1, size + 5), (size, size + 9)):
        start = max(start, 0)
        assert await content_of(store, sha256, start, end) == content[start:end]
    assert await content_of(store, sha256, size // 2) == content[size // 2 :]
    async with store.as_file(sha256) as path:
        assert path.read_bytes() == content
    assert [found async for found in store.list_objects()] == [(sha256, size)]


async def test_it_notes_whose_it_is(store):
    """Nobody's at first; it is no object, and no name."""
    assert await store.owner() is None
    await store.own("b06d3f4a-1c5e-4ad5-9d0b-0e2b1d2b8a55")
    assert await store.owner() == "b06d3f4a-1c5e-4ad5-9d0b-0e2b1d2b8a55"
    assert [found async for found in store.list_objects()] == []


async def test_it_keeps_notes(store):
    """Small things that outlive the database: by name, replaced as a whole, listed by folder; no objects."""
    assert await store.note("sessions/highest") is None
    assert [name async for name in store.list_notes("versions")] == []
    await store.set_note("sessions/highest", b"1")
    await store.set_note("sessions/highest", b"2")
    await store.set_note("versions/robot_A/me/ds/7", b"{}")
    assert await store.note("sessions/highest") == b"2"
    assert [name async for name in store.list_notes("versions")] == ["versions/robot_A/me/ds/7"]
    assert [found async for found in store.list_objects()] == []
    for _ in range(2):
        await store.remove_note("versions/robot_A/me/ds/7")
        assert [name async for name in store.list_notes("versions")] == []


async def test_unknown_objects(store):
    """What was never stored is missing in every way of asking."""
    assert await store.size(NOBODY) is None
    with pytest.raises(ObjectMissing):
        await content_of(store, NOBODY)
    with pytest.raises(ObjectMissing):
        async with store.as_file(NOBODY):
            pass
    with pytest.raises(ObjectMissing):
        await store.name("robot_A/x.json", NOBODY)
    await store.remove(NOBODY)


async def test_unknown_uploads(store):
    """An upload that was not begun, or was given up, takes nothing and gives nothing."""
    upload_id = await begun(store, b"some")
    await store.discard(upload_id)
    await store.discard(upload_id)
    assert await store.staged_bytes(upload_id) is None
    with pytest.raises(UnknownUpload):
        await store.append(upload_id, 0, parts_of(b"x"), limit=1)
    with pytest.raises(UnknownUpload):
        await store.digest(upload_id)
    with pytest.raises(UnknownUpload):
        await store.finish(upload_id, sha256=sha256_of(b"some"), size_bytes=4)


async def test_grows_by_appends(store):
    """Each append starts where the last one ended; the offset tells how far the upload is."""
    content = os.urandom(7 * MIB)
    upload_id = await begun(store)
    assert await store.staged_bytes(upload_id) == 0
    for start in range(0, len(content), 3 * MIB):
        piece = content[start : start + 3 * MIB]
        end = await store.append(upload_id, start, parts_of(piece), limit=len(content))
        assert end == start + len(piece) == await store.staged_bytes(upload_id)
    assert await store.digest(upload_id) == sha256_of(content)
    # A process that has seen none of the bytes comes to the same.
    assert await open_store_again(store).digest(upload_id) == sha256_of(content)
    await open_store_again(store).finish(upload_id, sha256=sha256_of(content), size_bytes=len(content))
    assert await content_of(store, sha256_of(content)) == content


def open_store_again(store: Store) -> Store:
    """The same store as another process would see it."""
    return type(store)(getattr(store, "root", None) or store._bucket)


async def test_begin_twice(store):
    """Beginning an upload again keeps what it has."""
    upload_id = await begun(store, b"here")
    await store.begin(upload_id)
    assert await store.staged_bytes(upload_id) == 4


@pytest.mark.parametrize("offset", [0, 3, 5, MIB])
async def test_offset_must_fit(store, offset):
    """An append that starts elsewhere than at the end changes nothing and tells where the end is."""
    upload_id = await begun(store, b"four")
    with pytest.raises(OffsetMismatch) as refused:
        await store.append(upload_id, offset, parts_of(b"more"), limit=2 * MIB)
    assert refused.value.limit == 4
    assert await store.staged_bytes(upload_id) == 4


async def test_cut_connection_keeps_what_came(store):
    """When the parts break off, what came before is counted and the rest can follow."""
    content = os.urandom(9 * MIB)

    async def cut() -> AsyncIterator[bytes]:
        async for part in parts_of(content[: 6 * MIB + 11]):
            yield part
        raise ConnectionResetError

    upload_id = await begun(store)
    with pytest.raises(ConnectionResetError):
        await store.append(upload_id, 0, cut(), limit=len(content))
    assert await store.staged_bytes(upload_id) == 6 * MIB + 11
    await store.append(upload_id, 6 * MIB + 11, parts_of(content[6 * MIB + 11 :]), limit=len(content))
    await store.finish(upload_id, sha256=sha256_of(content), size_bytes=len(content))


async def test_limit(store):
    """Of more bytes than announced those that were announced are kept."""
    upload_id = await begun(store)
    with pytest.raises(BodyTooLarge) as refused:
        await store.append(upload_id, 0, parts_of(b"x" * 3 * MIB), limit=2 * MIB)
    assert refused.value.limit == 2 * MIB
    assert await store.staged_bytes(upload_id) == 2 * MIB


@pytest.mark.parametrize("size", [100, 12 * MIB])
@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
async def test_checked_append(store, algorithm, size):
    """With a checksum the bytes count if they match it, and else the upload is as it was."""
    first, second = os.urandom(1000), os.urandom(size)
    upload_id = await begun(store, first)
    right = Checksum(algorithm, hashlib.new(algorithm, second).digest())
    wrong = Checksum(algorithm, hashlib.new(algorithm, first).digest())
    limit = 1000 + size
    with pytest.raises(ChecksumMismatch):
        await store.append(upload_id, 1000, parts_of(second), limit=limit, checksum=wrong)
    assert await store.staged_bytes(upload_id) == 1000
    assert await store.append(upload_id, 1000, parts_of(second), limit=limit, checksum=right) == limit
    await store.finish(upload_id, sha256=sha256_of(first + second), size_bytes=limit)
    assert await content_of(store, sha256_of(first + second)) == first + second


async def test_cut_checked_append(store):
    """Bytes that could not be held against their checksum do not count."""

    async def cut() -> AsyncIterator[bytes]:
        yield b"y" * 6 * MIB
        raise ConnectionResetError

    upload_id = await begun(store, b"first")
    with pytest.raises(ConnectionResetError):
        await store.append(upload_id, 5, cut(), limit=9 * MIB, checksum=Checksum("sha1", b""))
    assert await store.staged_bytes(upload_id) == 5
    await store.append(upload_id, 5, parts_of(b"second"), limit=11)
    assert await store.digest(upload_id) == sha256_of(b"firstsecond")


@pytest.mark.parametrize(
    ("sha256", "size_bytes"), [(NOBODY, 3), (sha256_of(b"abc"), 4), (sha256_of(b"abc"), 2)]
)
async def test_wrong_content_is_no_object(store, sha256, size_bytes):
    """What has another length or another SHA-256 is not published."""
    upload_id = await begun(store, b"abc")
    with pytest.raises(ChecksumMismatch):
        await store.finish(upload_id, sha256=sha256, size_bytes=size_bytes)
    assert [found async for found in store.list_objects()] == []


async def test_wrong_large_content_is_no_object(store):
    """A file of many parts with another SHA-256 is not published either."""
    upload_id = await begun(store, os.urandom(12 * MIB))
    with pytest.raises(ChecksumMismatch):
        await store.finish(upload_id, sha256=NOBODY, size_bytes=12 * MIB)
    assert [found async for found in store.list_objects()] == []


async def test_finish_twice(store):
    """Finishing again, by whomever, gives the same object; it stays when the upload is discarded."""
    content = os.urandom(6 * MIB)
    upload_id = await begun(store, content)
    for each in (store, store, open_store_again(store)):
        await each.finish(upload_id, sha256=sha256_of(content), size_bytes=len(content))
    await store.discard(upload_id)
    assert await content_of(store, sha256_of(content)) == content


async def test_recipe(store):
    """A file is put together of what was sent and what its base holds, in any order."""
    base = os.urandom(8 * MIB)
    sent = os.urandom(MIB + 3)
    wanted = sent[:1000] + base[5 * MIB :] + sent[1000:2000] + base[: 2 * MIB] + sent[2000:]
    copied = [(1000, 3 * MIB, 5 * MIB), (2000 + 3 * MIB, 2 * MIB, 0)]
    recipe = Recipe(await stored(store, base), copied)
    upload_id = await begun(store, sent)
    for _ in range(2):
        await store.finish(upload_id, sha256=sha256_of(wanted), size_bytes=len(wanted), recipe=recipe)
    assert await content_of(store, sha256_of(wanted)) == wanted


async def test_recipe_of_nothing_new(store):
    """A file that only rearranges its base needs no bytes at all."""
    recipe = Recipe(await stored(store, b"0123456789"), [(0, 4, 6), (4, 4, 0)])
    upload_id = await begun(store)
    await store.finish(upload_id, sha256=sha256_of(b"67890123"), size_bytes=8, recipe=recipe)
    assert await content_of(store, sha256_of(b"67890123")) == b"67890123"


@pytest.mark.parametrize("base", ["missing", "other", "short"])
async def test_damaged_base(store, base):
    """A base that is not what it was makes no object, whatever is wrong with it."""
    wanted = b"x" * 100 + b"new"
    found = {"missing": NOBODY, "other": sha256_of(b"y" * 100), "short": sha256_of(b"x" * 50)}[base]
    await stored(store, b"y" * 100)
    await stored(store, b"x" * 50)
    upload_id = await begun(store, b"new")
    with pytest.raises(ChecksumMismatch):
        await store.finish(
            upload_id, sha256=sha256_of(wanted), size_bytes=103, recipe=Recipe(found, [(0, 100, 0)])
        )
    assert await store.size(sha256_of(wanted)) is None
    assert await store.staged_bytes(upload_id) == 3


async def test_bytes_missing_for_the_recipe(store):
    """An upload that is shorter or longer than what the recipe lacks makes no object."""
    recipe = Recipe(await stored(store, b"base"), [(0, 4, 0)])
    for sent in (b"ne", b"new!"):
        upload_id = await begun(store, sent)
        with pytest.raises(ChecksumMismatch):
            await store.finish(upload_id, sha256=sha256_of(b"basenew"), size_bytes=7, recipe=recipe)
    assert await store.size(sha256_of(b"basenew")) is None


async def test_later_request_takes_over(store):
    """A writer whose connection is dead makes way for a later one; what it had is kept."""
    waiting = asyncio.Event()

    async def half_open() -> AsyncIterator[bytes]:
        yield b"a" * (6 * MIB)
        waiting.set()
        await asyncio.Event().wait()

    upload_id = await begun(store)
    first = asyncio.create_task(store.append(upload_id, 0, half_open(), limit=7 * MIB))
    await waiting.wait()
    with pytest.raises(OffsetMismatch) as refused:
        await store.append(upload_id, 0, parts_of(b"b"), limit=7 * MIB)
    assert refused.value.limit == 6 * MIB
    with pytest.raises(UploadBusy):
        await first
    await store.append(upload_id, 6 * MIB, parts_of(b"b" * MIB), limit=7 * MIB)
    assert await store.digest(upload_id) == sha256_of(b"a" * 6 * MIB + b"b" * MIB)


async def test_many_writers_at_once(store):
    """However many write the same bytes at once, here and elsewhere, each byte is there once."""
    content = os.urandom(7 * MIB)
    upload_id = await begun(store)
    others = [store, store, open_store_again(store), open_store_again(store)]

    async def insist(store: Store) -> None:
        for _ in range(100):
            try:
                offset = await store.staged_bytes(upload_id)
                if offset == len(content):
                    return
                await store.append(upload_id, offset, parts_of(content[offset:]), limit=len(content))
            except (UploadBusy, OffsetMismatch):
                await asyncio.sleep(0.01)
        raise AssertionError("never done")

    await asyncio.gather(*(insist(each) for each in others))
    await store.finish(upload_id, sha256=sha256_of(content), size_bytes=len(content))
    assert await content_of(store, sha256_of(content)) == content


async def test_cancelled_append(store):
    """An append that is cancelled keeps what it had, and lets the next one in."""
    waiting = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"abc"
        waiting.set()
        await asyncio.Event().wait()

    upload_id = await begun(store)
    task = asyncio.create_task(store.append(upload_id, 0, endless(), limit=10))
    await waiting.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert await store.append(upload_id, 3, parts_of(b"def"), limit=10) == 6


async def test_uploads_are_listed(store):
    """Each with the time of its last bytes, until it is discarded; what they hold does not matter."""
    before = datetime.now(UTC) - timedelta(seconds=CLOCKS_APART_S)
    assert [each async for each in store.list_uploads()] == []
    empty, full = await begun(store), await begun(store)
    await store.append(full, 0, parts_of(os.urandom(6 * MIB)), limit=6 * MIB)
    listed = {upload: changed_at async for upload, changed_at in store.list_uploads()}
    assert listed.keys() == {empty, full}
    after = datetime.now(UTC) + timedelta(seconds=CLOCKS_APART_S)
    assert all(before < changed_at < after for changed_at in listed.values())
    await store.discard(full)
    assert [upload async for upload, _ in store.list_uploads()] == [empty]


async def test_discarded_while_written(store):
    """Discarding an upload ends whoever writes to it."""
    waiting = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"abc"
        waiting.set()
        await asyncio.Event().wait()

    upload_id = await begun(store)
    task = asyncio.create_task(store.append(upload_id, 0, endless(), limit=10))
    await waiting.wait()
    await store.discard(upload_id)
    with pytest.raises(UploadBusy):
        await task
    assert await store.staged_bytes(upload_id) is None


async def test_removed_objects_are_gone(store):
    """A removed object is missing, and can be stored again."""
    sha256 = await stored(store, b"again")
    await store.remove(sha256)
    assert await store.size(sha256) is None
    await stored(store, b"again")
    assert await content_of(store, sha256) == b"again"
