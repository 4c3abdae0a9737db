"""A folder of exports that can't be written for a while: moved away, read-only, over its quota."""

import asyncio
import errno
import io
import json
import shutil
from pathlib import Path

import pytest
from teleop_client.exporting.cli import export, parse
from teleop_export import worker
from teleop_export.tables import export_table
from teleop_testing.waiting import until


@pytest.fixture
def building(tmp_path, monkeypatch) -> Path:
    """Where exports are built; one has only one attempt."""
    monkeypatch.setattr(export_table, "MAX_ATTEMPTS", 1)
    return tmp_path / "exports/.building"


async def waits(backend, export_id: int) -> dict:
    """The export once it says what it waits for."""

    async def told() -> dict | None:
        export = (await backend.http.get(f"/exports/{export_id}")).json()
        assert export["status"] in ("queued", "running"), export
        return export if export["waits_for"] else None

    return await until(told)


async def test_an_export_waits_while_nothing_can_be_built(backend, record, building):
    """The reason is told in the system's words, at /readyz too; it is made once that is over."""
    session = await record(30)
    building.rename(building.with_name("away"))
    export_id = (await backend.ask(session))["id"]
    export = await waits(backend, export_id)
    assert export["waits_for"]["code"] == "exports_unwritable"
    assert "can't be written: No such file or directory" in export["waits_for"]["detail"]
    answer = await backend.http.get("/readyz")
    assert answer.status_code == 503
    assert "No such file or directory" in answer.json()["export folder"]
    building.with_name("away").rename(building)
    export = await backend.ended(export_id)
    assert (export["status"], export["waits_for"]) == ("done", None)
    assert (await backend.http.get("/readyz")).status_code == 200


async def test_whose_folder_is_gone_is_told_when_asked(backend, record, building):
    """The whole disk of exports: nothing is begun that has no place."""
    session = await record(30)
    root = building.parent.rename(building.parent.with_name("away"))
    answer = await backend.ask(session, status=503)
    assert answer["code"] == "exports_unwritable"
    root.rename(building.parent)
    assert (await backend.ended((await backend.ask(session))["id"]))["status"] == "done"


@pytest.mark.parametrize("terminal", [True, False])
async def test_who_asked_on_the_command_line_reads_what_is_waited_for(
    backend, record, building, database, tmp_path, monkeypatch, terminal
):
    """Once, however often the backend looks again, with what to do about it; then the export goes on."""
    session = await record(30)
    building.rename(building.with_name("away"))
    words = ["--session_id", str(session), "--repo_id", "lab/pick", "--root", str(tmp_path / "made")]
    output = io.StringIO()
    monkeypatch.setattr(output, "isatty", lambda: terminal)
    asked = parse([*words, "--backend_url", str(backend.http.base_url)])
    work = asyncio.create_task(export(asked, output))
    await until(lambda: work.done() or "waiting: " in output.getvalue())

    async def looked_again() -> bool:
        return await database.value("SELECT attempt > 1 AND status = 'queued' FROM export")

    await until(looked_again)
    building.with_name("away").rename(building)
    await work
    (told,) = [line for line in output.getvalue().splitlines() if "waiting: " in line]
    assert "can't be written: No such file or directory" in told
    assert (tmp_path / "made/meta/info.json").is_file()


async def test_a_folder_that_can_be_written_no_more_in_the_middle(backend, record, building, monkeypatch):
    """Nothing is half published, no attempt is lost."""
    session = await record(30)
    real = worker.build

    def build(folder: Path, *about, **more):
        building.rename(building.with_name("away"))
        monkeypatch.setattr(worker, "build", real)
        raise OSError(errno.EROFS, "Read-only file system", str(folder))

    monkeypatch.setattr(worker, "build", build)
    export_id = (await backend.ask(session))["id"]
    await waits(backend, export_id)
    building.with_name("away").rename(building)
    assert (await backend.ended(export_id))["status"] == "done"


async def test_what_else_the_system_refuses_is_told_in_its_words(backend, record, monkeypatch):
    """The folder is well: then it fails, and not for a reason that only the log knows."""
    session = await record(30)

    def build(*about, **more):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(worker, "build", build)
    export = await backend.ended((await backend.ask(session))["id"])
    assert export["error"]["detail"] == "Input/output error in the backend; its log has the details"


async def told_by_all(backend, export_id: int) -> None:
    """Every address says that the files are gone, and what to do."""
    told = (await backend.http.get(f"/exports/{export_id}")).json()
    assert (told["status"], told["error"]["code"]) == ("failed", "export_files_gone")
    assert "with the same request" in told["error"]["hint"]
    del told["report"]
    assert (await backend.http.get("/exports")).json()["exports"][0] == told
    assert (await backend.http.get("/exports?status=failed")).json()["exports"] == [told]
    done = (await backend.http.get("/exports?status=done")).json()["exports"]
    assert len(done) == 1
    assert done[0]["id"] != export_id
    events = (await backend.http.get(f"/exports/{export_id}/events")).text.splitlines()
    (event,) = [line.removeprefix("data: ") for line in events if line.startswith("data: ")]
    assert json.loads(event) == told
    report = (await backend.http.get(f"/exports/{export_id}/report.txt")).text
    assert f"export {export_id}: lab/pick, failed" in report
    assert f"failed: the files of export {export_id} no longer exist; ask for it again" in report
    answer = await backend.http.post(f"/exports/{export_id}/push", json={})
    assert (answer.status_code, answer.json()["code"]) == (404, "export_files_gone")


async def test_an_export_whose_files_are_gone_is_made_again(backend, record, building):
    """Nobody is told that it is done, and the same request makes it again, with the same content."""
    await backend.export(await record(20))
    session = await record(30)
    export, _ = await backend.export(session)
    address = f"/exports/{export['id']}"
    before = (await backend.http.get(f"{address}/archive")).content
    (published,) = building.parent.glob(f"export-{export['id']}-*")
    shutil.rmtree(published)
    await told_by_all(backend, export["id"])
    answer = await backend.http.get(f"{address}/archive")
    assert (answer.status_code, answer.json()["retryable"]) == (404, True)
    assert (await backend.ask(session))["id"] == export["id"]
    assert (await backend.ended(export["id"]))["status"] == "done"
    assert len((await backend.http.get(f"{address}/archive")).content) == len(before)
