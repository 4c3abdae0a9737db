"""The tar stream, as tar programs see it."""

import io
import itertools
import os
import tarfile

import pytest
from teleop_export.api.archive import FolderTar


@pytest.fixture
def folder(tmp_path):
    for name, size in (
        ("meta/info.json", 10),
        ("data/a.parquet", 512),
        ("data/b.parquet", 0),
        ("c", 3_000_001),
    ):
        path = tmp_path / "dataset" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(index % 251 for index in range(size)))
    return tmp_path / "dataset"


async def read(archive):
    return b"".join([part async for part in archive.read(0, archive.size_bytes)])


async def test_archive_holds_every_file(folder):
    """Each under the dataset's name, with its content."""
    content = await read(FolderTar(folder, "pick"))
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        found = {member.name: tar.extractfile(member).read() for member in tar}
    assert found == {
        f"pick/{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


async def test_archive_knows_its_size(folder):
    """Clients see at once whether they got all of it."""
    archive = FolderTar(folder, "pick")
    assert archive.size_bytes == len(await read(archive))


async def test_archive_is_the_same_each_time(folder):
    """Nothing in it depends on when it was made."""
    assert await read(FolderTar(folder, "pick")) == await read(FolderTar(folder, "pick"))


async def test_a_range(folder):
    """From any byte to any other, it is that part of the whole."""
    archive = FolderTar(folder, "pick")
    whole = await read(archive)
    edges = [0, 1, 511, 512, 1023, 1024, 1536, 2048, 3_000_000, len(whole) - 1025, len(whole) - 1, len(whole)]
    for start, end in itertools.combinations(edges, 2):
        part = b"".join([part async for part in archive.read(start, end)])
        assert part == whole[start:end], (start, end)


async def test_files_keep_their_time(folder):
    """To the nanosecond, as far as tar programs take it."""
    os.utime(folder / "c", ns=(0, 1_763_860_000_123_456_789))
    with tarfile.open(fileobj=io.BytesIO(await read(FolderTar(folder, "pick")))) as tar:
        member = tar.getmember("pick/c")
        assert member.pax_headers["mtime"] == "1763860000.123456789"
        assert member.mtime == pytest.approx(1_763_860_000.123457, abs=1e-6)


async def test_long_names_fit(folder):
    """A repo name may be longer than tar's first header holds."""
    name = "n" * 120
    with tarfile.open(fileobj=io.BytesIO(await read(FolderTar(folder, name)))) as tar:
        assert f"{name}/meta/info.json" in tar.getnames()
