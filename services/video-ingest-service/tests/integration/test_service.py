"""The service as machines see it."""

import os

from teleop_runtime.postgres import pool
from teleop_testing.datasets.files import encode_video, video_file
from teleop_testing.waiting import until


async def test_every_address_is_described(http):
    """With what it reads, what it answers and what can go wrong."""
    document = (await http.get("/openapi.json")).json()
    described = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    dataset = "/datasets/{robot_id}/{name}"
    assert described >= {
        ("POST", "/files/plan"),
        ("POST", "/files"),
        ("POST", "/upload/video"),
        ("POST", "/upload/sync"),
        ("GET", "/sessions/{session_id}/videos"),
        ("GET", "/videos/{video_id}"),
        ("GET", "/videos/{video_id}/content"),
        ("GET", "/datasets"),
        ("GET", dataset),
        ("GET", f"{dataset}/versions"),
        ("POST", f"{dataset}/versions"),
        ("GET", f"{dataset}/restore"),
        ("POST", f"{dataset}/verify"),
        ("POST", f"{dataset}/repair"),
        ("GET", f"{dataset}/files/{{path}}"),
        ("GET", "/hub/{robot_id}/{name}/resolve/main/{path}"),
    }
    assert "409" in document["paths"][f"{dataset}/versions"]["post"]["responses"]


async def test_commands_are_posted(http):
    """No dataset's name ends like the address of a command, so GET is the wrong method there."""
    for command in ("repair", "verify"):
        answer = await http.get(f"/datasets/robot_A/someone/picking/{command}")
        assert (answer.status_code, answer.headers.get("Allow")) == (405, "POST")


async def test_what_is_taken_in_is_counted(http, catalog, keep, session):
    """Files and bytes by kind, looks into videos, quarantined ones."""

    async def counted(name: str) -> float:
        lines = (await http.get("/metrics")).text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    names = ("stored_files_total", "stored_bytes_total", "video_probes_total", "quarantined_videos_total")
    before = [await counted(name) for name in names]
    sound, broken = encode_video(2), b"<html>"
    for number, content in enumerate((sound, broken)):
        await keep(content)
        await catalog.accept(video_file(content, session, chunk_index=number))
    after = [await counted(name) for name in names]
    grown = [now - then for now, then in zip(after, before, strict=True)]
    assert grown == [2, len(sound) + len(broken), 2, 1]


async def test_it_is_ready_while_database_and_store_answer(http, store_root):
    """And tells what does not."""
    assert (await http.get("/readyz")).json() == {"status": "ready"}
    moved = store_root.rename(store_root.with_name("moved"))
    store_root.write_text("a file where the folder was")

    async def unready() -> bool:
        return "store" in (await http.get("/readyz")).json()

    await until(unready)
    store_root.unlink()
    moved.rename(store_root)
    assert (await http.get("/readyz")).json() == {"status": "ready"}


async def test_it_is_not_ready_while_no_file_fits(http, store_root, monkeypatch):
    """Bytes are left, but the file system can have no further file: told, and refused as 507."""
    statvfs = os.statvfs

    def without_inodes(path):
        told = list(statvfs(path)[:10])
        told[7] = 0
        return os.statvfs_result(told)

    with monkeypatch.context() as disk:
        disk.setattr(os, "statvfs", without_inodes)
        answer = await http.get("/readyz")
        assert (answer.status_code, "no room for another file" in answer.json()["store"]) == (503, True)
        form = {"robot_id": "robot_A", "dataset": "ds", "path": "meta/info.json"}
        answer = await http.post("/upload/sync", data=form, files={"file": ("x", b"{}")})
        assert (answer.status_code, answer.json()["code"]) == (507, "no_space")
    assert (await http.get("/readyz")).status_code == 200


async def test_it_is_not_ready_while_nothing_fits(http, monkeypatch):
    """A store without room is told, with the reason, until there is room again."""
    with monkeypatch.context() as disk:
        disk.setattr("teleop_runtime.store.local.KEPT_FREE", 1.0)
        answer = await http.get("/readyz")
        assert (answer.status_code, "is full" in answer.json()["store"]) == (503, True)
        assert answer.json()["store"].endswith("; free some space on the server's disk, then upload again")
    assert (await http.get("/readyz")).status_code == 200


async def test_a_full_disk_of_the_database_is_told(http, database, monkeypatch):
    """By the refusal of each file, and by readiness, which goes on: what is stored can still be read."""
    monkeypatch.setattr(pool, "FULL_TOLD_S", 1.0)
    await database.fail_inserts("true", "53100", table="upload")
    about = {"robot_id": "robot_A", "dataset": "me/ds", "path": "data/file-000.parquet"}

    async def sent() -> int:
        answer = await http.post("/upload/sync", data=about, files={"file": ("file.bin", b"PAR1")})
        return answer.status_code

    async def readiness() -> dict[str, str]:
        return (await http.get("/readyz")).json()

    assert await sent() == 507
    ready = await readiness()
    assert ready["status"] == "ready"
    assert "the disk of the database is full; free some space" in ready["room of the database"]
    await database.heal()
    assert await sent() == 201

    async def told_no_more() -> bool:
        return "room of the database" not in await readiness()

    await until(told_no_more)
