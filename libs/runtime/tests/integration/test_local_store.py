"""What the store on a directory promises beyond what every store does."""

import errno
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import pytest
from teleop_runtime.store import (
    Checksum,
    ChecksumMismatch,
    DiskFailed,
    ObjectMissing,
    PathTaken,
    Recipe,
    StoreUnusable,
    UploadBusy,
    durable,
    open_store,
)
from teleop_runtime.store.local import LocalStore
from teleop_runtime.store.staged_file import StagedFile
from teleop_schema.errors import NoSpace, Overloaded
from teleop_testing.datasets.storing import content_of, parts_of, stored
from teleop_testing.machine.disks import disk_of
from teleop_testing.waiting import PATIENCE_S

MIB = 1024 * 1024
NOTHING = Checksum("sha256", sha256().digest())


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore.open(tmp_path / "backup")


async def test_tree_costs_no_space(store):
    """The tree's files are the objects themselves, readable by all and writable by nobody."""
    digest = await stored(store, b"content")
    await store.name("robot_A/data/meta/info.json", digest)
    file = store.root / "robot_A/data/meta/info.json"
    assert file.samefile(store._object(digest))
    assert file.stat().st_mode & 0o777 == 0o444


async def test_objects_are_files_here(store):
    """Threads open an object without asking the event loop; what is missing is named."""
    digest = await stored(store, b"content")
    assert store.file_here(digest).read_bytes() == b"content"
    await store.remove(digest)
    with pytest.raises(ObjectMissing):
        store.file_here(digest)


async def test_nothing_is_left_over(store):
    """What was finished, discarded and named leaves no scratch file."""
    digest = await stored(store, b"content")
    for _ in range(3):
        await store.name("robot_A/data/meta/info.json", digest)
    with pytest.raises(PathTaken):
        await store.name("robot_A/data/meta/info.json/more.json", digest)
    assert list(store.incoming.iterdir()) == []


@pytest.mark.parametrize("path", ["", "/etc/x", "../x", "a/../../x", ".objects/x", "a/.b", "a\0b"])
async def test_names_stay_below_the_root(store, path):
    """Even if a caller forgot to check it, no name leads out of the tree or into the store's own folders."""
    with pytest.raises(ValueError, match="not a name in the store"):
        await store.name(path, await stored(store, b"content"))


@pytest.mark.parametrize("damage", [b"CONTENT", b"cont", b""])
async def test_damaged_object_heals(store, damage):
    """Storing the same content again replaces an object whose bytes have changed."""
    digest = await stored(store, b"content")
    store._object(digest).chmod(0o644)
    store._object(digest).write_bytes(damage)
    await stored(store, b"content")
    assert store._object(digest).read_bytes() == b"content"


async def test_without_hard_links(store, monkeypatch):
    """On a filesystem without hard links, or out of them, files are copied instead."""

    def refuse(*_arguments):
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(durable.os, "link", refuse)
    content = os.urandom(3 * MIB)
    digest = await stored(store, content)
    await store.name("robot_A/data/x.json", digest)
    assert (store.root / "robot_A/data/x.json").read_bytes() == content
    assert list(store.incoming.iterdir()) == []


async def test_failed_sync_fails_the_upload(store, monkeypatch):
    """After a failed fsync nobody can know what the disk holds: the upload is gone, not counted."""
    upload_id = uuid4()
    await store.begin(upload_id)

    def fail(_fd: int) -> None:
        raise OSError(5, "input/output error")

    with monkeypatch.context() as patched:
        patched.setattr("teleop_runtime.store.staged_file.sync_data", fail)
        with pytest.raises(DiskFailed):
            await store.append(upload_id, 0, parts_of(b"content"), limit=7)
    assert await store.staged_bytes(upload_id) is None


async def test_locked_against_other_processes(store):
    """While one process writes to an upload, another one is told to wait."""
    upload_id = uuid4()
    await store.begin(upload_id)
    with StagedFile(store.incoming, upload_id), pytest.raises(UploadBusy):
        await store.append(upload_id, 0, parts_of(b"content"), limit=7)


async def test_old_scratch_goes(store, monkeypatch):
    """What a killed process left half-made goes when the store is opened an hour later."""
    left = [store.incoming / f"{uuid4().hex}.name", store.incoming / f"{uuid4().hex}.whole"]
    upload_id = uuid4()
    await store.begin(upload_id)
    for path in left:
        path.touch()
    open_store(store.root)
    assert all(path.exists() for path in left)
    monkeypatch.setattr("teleop_runtime.store.local.SCRATCH_S", -1)
    open_store(store.root)
    assert [path.name for path in store.incoming.iterdir()] == [str(upload_id)]


async def test_object_is_not_written_to_again(store):
    """An upload that has become an object takes no more bytes, even before it is discarded."""
    upload_id = uuid4()
    await store.begin(upload_id)
    await store.append(upload_id, 0, parts_of(b"content"), limit=100)
    await store.finish(upload_id, sha256=sha256(b"content").hexdigest(), size_bytes=7)
    with pytest.raises(UploadBusy):
        await store.append(upload_id, 7, parts_of(b"more"), limit=100)
    assert store._object(sha256(b"content").hexdigest()).read_bytes() == b"content"


async def test_died_before_it_had_its_name(store, monkeypatch):
    """What was made read-only, but not yet an object, is finished by whoever comes; nobody writes to it."""
    upload_id = uuid4()
    digest = sha256(b"content").hexdigest()
    await store.begin(upload_id)
    await store.append(upload_id, 0, parts_of(b"content"), limit=100)
    with monkeypatch.context() as patched:
        patched.setattr(LocalStore, "_publish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await store.finish(upload_id, sha256=digest, size_bytes=7)
    later = LocalStore.open(store.root)
    await later.begin(upload_id)
    assert await later.append(upload_id, 7, parts_of(b""), limit=100, checksum=NOTHING) == 7
    with pytest.raises(UploadBusy):
        await later.append(upload_id, 7, parts_of(b"more"), limit=100)
    with pytest.raises(UploadBusy):
        await later.append(upload_id, 7, parts_of(b"more"), limit=100, checksum=NOTHING)
    await later.finish(upload_id, sha256=digest, size_bytes=7)
    assert await content_of(later, digest) == b"content"


async def test_what_the_disk_refuses_is_told_as_such(store):
    """It is the file store that can't be used, and why: nobody looks for the mistake in the database."""
    store.incoming.rmdir()
    store.incoming.touch()
    with pytest.raises(StoreUnusable) as refused:
        await store.begin(uuid4())
    assert (refused.value.status, refused.value.retryable) == (503, True)
    assert refused.value.detail == "the file store can't be used: Not a directory"


async def test_no_more_files_can_be_opened(store, monkeypatch):
    """Descriptors used up are told as that, not as a disk that fails."""

    def used_up(*_arguments, **_options):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("teleop_runtime.store.local.os.open", used_up)
    with pytest.raises(Overloaded):
        await store.begin(uuid4())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 32 MiB."""
    with disk_of(tmp_path / "disk", 32 << 20) as folder:
        yield folder


def remount(folder, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", folder], check=True, timeout=PATIENCE_S)


@pytest.mark.root("a small disk is mounted")
async def test_disk_that_takes_no_writes(small_disk):
    """A file system that became read-only, as the kernel makes one whose disk fails, is told ahead."""
    store = LocalStore.open(small_disk / "backup")
    remount(small_disk, "ro")
    with pytest.raises(DiskFailed):
        await store.check_room(0)
    remount(small_disk, "rw")
    await store.check_room(0)


@pytest.mark.root("a small disk is mounted")
async def test_full_disk(small_disk):
    """A full disk is told as such, before it is full if the size is known; what came is kept."""
    store = LocalStore.open(small_disk / "backup")
    free = await store.free_bytes()
    assert 29 * MIB < free < 31 * MIB
    await store.check_room(free)
    with pytest.raises(NoSpace) as refused:
        await store.check_room(free + MIB)
    assert refused.value.status == 507
    assert refused.value.limit == free

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * MIB

    upload_id = uuid4()
    await store.begin(upload_id)
    with pytest.raises(NoSpace):
        await store.append(upload_id, 0, endless(), limit=2**40)
    held = await store.staged_bytes(upload_id)
    assert held is not None
    assert held > 29 * MIB
    assert (store.incoming / str(upload_id)).read_bytes() == b"x" * held
    await store.discard(upload_id)
    assert await store.free_bytes() == free


@pytest.mark.root("a small disk is mounted")
async def test_full_disk_while_assembling(small_disk):
    """A file that can't be put together for lack of room leaves nothing behind."""
    store = LocalStore.open(small_disk / "backup")
    content = os.urandom(20 * MIB)
    digest = await stored(store, content)
    upload_id = uuid4()
    await store.begin(upload_id)
    with pytest.raises(NoSpace):
        await store.finish(
            upload_id, sha256="0" * 64, size_bytes=20 * MIB, recipe=Recipe(digest, [(0, 20 * MIB, 0)])
        )
    assert [path.name for path in store.incoming.iterdir()] == [str(upload_id)]
    assert (await content_of(store, digest)) == content


async def test_another_disk_is_there(store):
    """A store that is not the one that it was takes nothing: what it took would be hidden by the real one."""
    await store.check_room(0)
    await store.own("a database")
    (store.root / ".owner").unlink()
    for look in (store.check_owner(), store.check_room(0), stored(store, b"content")):
        with pytest.raises(StoreUnusable, match=r"place of the stored files") as refused:
            await look
        assert "mounted" in refused.value.hint
    await store.own("a database")
    await store.check_room(0)


async def test_wrong_content_stays_writable(store):
    """An upload that failed its check is not sealed: whoever wants to may discard it and start over."""
    upload_id = uuid4()
    await store.begin(upload_id)
    await store.append(upload_id, 0, parts_of(b"content"), limit=7)
    with pytest.raises(ChecksumMismatch):
        await store.finish(upload_id, sha256="0" * 64, size_bytes=7)
    await store.discard(upload_id)
    assert list(store.incoming.iterdir()) == []
