"""Names by which a store's objects are found by people, beside their hashes."""

import json
from contextlib import suppress

import pytest
from teleop_runtime.store import (
    PathTaken,
    Store,
)
from teleop_testing.datasets.files import sha256_of
from teleop_testing.datasets.storing import content_of, stored


async def test_names(store, address):
    """A name stands for the object it was given last."""
    one, two = await stored(store, b"one"), await stored(store, b"two")
    path = "robot_A/my-user/my dätaset/videos/file 100%.mp4"
    for sha256 in (one, one, two):
        await store.name(path, sha256)
        assert await named(store, path) == sha256
    await store.name("robot_A/other.json", two)
    assert await named(store, "robot_A/other.json") == two
    assert sorted([each async for each in store.list_names()]) == [(path, two), ("robot_A/other.json", two)]
    await store.unname(path)
    await store.unname(path)
    assert await named(store, path) is None
    assert await named(store, "robot_A/other.json") == two
    assert await content_of(store, two) == b"two"


async def named(store: Store, path: str) -> str | None:
    """SHA-256 that a name stands for."""
    if root := getattr(store, "root", None):
        file = root / path
        return sha256_of(file.read_bytes()) if file.exists() else None
    with suppress(FileNotFoundError):
        return json.loads(b"".join([b async for b in store._bucket.read(f"names/{path}")]))["sha256"]
    return None


async def test_taken_paths(store):
    """A file does not replace a folder, nor a folder a file; names that only begin alike are free, and what
    is taken away makes room."""
    digest, other = await stored(store, b"content"), await stored(store, b"other")
    await store.name("robot_A/data/info.json", digest)
    for path in ("robot_A/data", "robot_A/data/info.json/more.json", "robot_A/data/info.json/a/b.json"):
        with pytest.raises(PathTaken):
            await store.name(path, digest)
    await store.name("robot_A/data/info", digest)
    await store.name("robot_A/data/info.json", other)
    assert [name async for name in store.list_names()] == [
        ("robot_A/data/info", digest),
        ("robot_A/data/info.json", other),
    ]
    await store.unname("robot_A/data/info")
    await store.name("robot_A/data/info/more.json", digest)
