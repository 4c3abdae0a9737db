"""The agent beside datasets that are closed, changed, cut and refused; real files, real sockets."""

import json
import os
import random
from pathlib import Path

import pytest
from aiohttp import web
from teleop_sync_agent.errors import Stuck, Taken
from teleop_sync_agent.keeping.receipts import Receipts
from teleop_sync_agent.sending import tender
from teleop_testing.datasets.dataset_folders import contents, make_dataset
from teleop_testing.waiting import PATIENCE_S

LARGE = random.Random(7).randbytes(2_000_000)
LARGE_PATH = "extra/file-000.mp4"


def row_of(agent, folder: Path):
    return agent.state.dataset(str(folder))


async def test_a_closed_dataset(make_agent, backend, outputs):
    """All of it is on the server, byte for byte, as one finalised version; the folder is as it was."""
    folder = make_dataset(outputs / "picking", files={"meta/extra/notes.md": b"# how it went"})
    before = contents(folder)
    agent = make_agent()
    assert await agent.once(PATIENCE_S) == []
    assert backend.stored("robot_A", "picking") == before == contents(folder)
    (version,) = backend.versions_of("robot_A", "picking")
    assert (version.finalised, version.total_episodes) == (True, 2)
    assert {file.path for file in version.files} == set(before)
    assert row_of(agent, folder).state == "stored"


async def test_receipts(make_agent, backend, outputs):
    """Each file has its receipt, with what the server said; a changed file has another one."""
    folder = make_dataset(outputs / "me/picking")
    agent = make_agent()
    assert await agent.once(PATIENCE_S) == []
    receipts = Receipts(outputs)
    assert {
        path.relative_to(outputs / ".uploaded").as_posix() for path in outputs.glob(".uploaded/**/*.json")
    } == {f"me/picking/{path}.json" for path in contents(folder)}
    first = receipts.read("me/picking/meta/stats.json")
    assert first.receipt.path == "robot_A/me/picking/meta/stats.json"
    assert first.sha256 == first.receipt.sha256
    (folder / "meta/stats.json").write_text('{"changed": true}')
    assert await agent.once(PATIENCE_S) == []
    again = receipts.read("me/picking/meta/stats.json")
    assert again.size_bytes == len('{"changed": true}')
    assert again.sha256 != first.sha256


async def test_a_proxy_that_refuses_large_requests(make_agent, backend, outputs):
    """`once` ends although bytes go out again and again: none of them gets on; what is wrong is said."""

    class TooLarge(web.HTTPException):
        status_code = 413

    async def proxy(request: web.Request) -> None:
        if request.method == "PATCH":
            await request.content.read()
            raise TooLarge

    make_dataset(outputs / "picking", files={LARGE_PATH: LARGE})
    backend.before = proxy
    with pytest.raises(Stuck, match=r"413.*limit the size of requests"):
        await make_agent().once(2.0)


async def test_nothing_is_sent_twice(make_agent, backend, outputs):
    """Another agent with the memory of the first asks nothing; one without it hashes, and sends nothing."""
    make_dataset(outputs / "picking", files={LARGE_PATH: LARGE})
    agent = make_agent()
    assert await agent.once(PATIENCE_S) == []
    agent.close()
    received = backend.received_bytes
    backend.requests.clear()
    agent = make_agent()
    assert await agent.once(PATIENCE_S) == []
    agent.close()
    assert not [request for request in backend.requests if "plan" in request]
    agent.state.path.unlink()
    assert await make_agent().once(PATIENCE_S) == []
    assert backend.received_bytes == received
    assert len(backend.versions_of("robot_A", "picking")) == 1


async def test_cuts_on_the_way(make_agent, backend, outputs):
    """Connections that break cost no byte."""
    folder = make_dataset(outputs / "picking", files={LARGE_PATH: LARGE})
    backend.cut_after.extend([1, 100_000, 300_000])
    assert await make_agent().once(PATIENCE_S) == []
    assert backend.stored("robot_A", "picking") == contents(folder)
    assert backend.received_bytes == sum(len(content) for content in contents(folder).values())


async def test_another_robots_dataset_of_the_same_name(make_agent, backend, outputs, tmp_path):
    """Two robots may call their datasets alike."""
    make_dataset(outputs / "picking")
    other = make_dataset(tmp_path / "others/picking", episodes=3)
    assert await make_agent().once(PATIENCE_S) == []
    assert await make_agent(robot_id="robot_B", roots=(tmp_path / "others",)).once(PATIENCE_S) == []
    assert backend.versions["robot_A", "picking"][0].total_episodes == 2
    assert backend.versions["robot_B", "picking"][0].total_episodes == 3
    assert backend.content("robot_B", "picking", "meta/info.json") == (other / "meta/info.json").read_bytes()


async def test_the_same_name_in_two_roots(make_agent, backend, outputs, tmp_path):
    """The second dataset of a name is failed, and says why; the first is stored."""
    make_dataset(outputs / "picking")
    second = make_dataset(tmp_path / "others/picking", episodes=3)
    agent = make_agent(roots=(outputs, tmp_path / "others"))
    assert await agent.once(PATIENCE_S)
    assert [version.total_episodes for version in backend.versions_of("robot_A", "picking")] == [2]
    row = row_of(agent, second)
    assert row.state == "failed"
    assert str(outputs / "picking") in row.error


async def test_a_stored_dataset_that_is_changed(make_agent, outputs, monkeypatch):
    """It is not safe as it lies there now, and a line says so."""
    folder = make_dataset(outputs / "picking")
    agent = make_agent()
    assert await agent.once(PATIENCE_S) == []
    monkeypatch.setattr(tender, "ONCE_PATIENCE_S", 0.0)
    shard = next(folder.glob("data/*/*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-100])
    (line,) = await agent.once(PATIENCE_S)
    assert line.startswith("picking: differs from what was stored: ")
    assert not line.endswith(": ")


async def test_a_name_the_server_has_no_place_for(make_agent, backend, outputs):
    """A dataset called as an address of the server is failed before anything is sent."""
    folder = make_dataset(outputs / "versions")
    agent = make_agent()
    assert await agent.once(PATIENCE_S)
    assert "the backend uses this name itself" in row_of(agent, folder).error
    assert not backend.requests or not any("plan" in request for request in backend.requests)


async def test_two_agents_on_one_folder(make_agent, outputs):
    """The second agent on a folder says so and leaves it alone."""
    make_agent()
    with pytest.raises(Taken, match="another sync-agent"):
        make_agent(robot_id="robot_B")


async def test_links_and_devices(make_agent, backend, outputs, tmp_path):
    """What is no regular file stays where it is, and is named."""
    folder = make_dataset(outputs / "picking")
    (tmp_path / "secret.json").write_text("secret")
    (folder / "meta/link.json").symlink_to(tmp_path / "secret.json")
    (folder / "linked").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(folder / "meta/pipe.json")
    agent = make_agent()
    assert await agent.once(PATIENCE_S)
    assert row_of(agent, folder).state == "stored"
    assert b"secret" not in backend.stored("robot_A", "picking").values()
    assert set(row_of(agent, folder).skipped) == {
        "linked: a symbolic link",
        "meta/link.json: a symbolic link",
        "meta/pipe.json: neither a file nor a folder",
    }


async def test_a_link_swapped_in(make_agent, backend, outputs, tmp_path):
    """A file that became a link between the look and the reading is not followed."""
    folder = make_dataset(outputs / "picking", files={LARGE_PATH: LARGE})
    (tmp_path / "secret.mp4").write_bytes(b"secret" * 10_000)
    agent = make_agent(parallel=1)

    async def swap(request):
        backend.before = None
        (folder / "extra/other.mp4").symlink_to(tmp_path / "secret.mp4")
        os.replace(folder / "extra/other.mp4", folder / LARGE_PATH)

    backend.before = swap
    await agent.once(PATIENCE_S)
    assert not any(b"secret" in content for content in backend.objects.values())


async def test_a_file_that_changes_while_it_is_sent(make_agent, backend, outputs):
    """The state that is no more is dropped; what is there in the end is stored."""
    folder = make_dataset(outputs / "picking", files={LARGE_PATH: LARGE})
    agent = make_agent(parallel=1)
    changed = False

    async def change(request):
        nonlocal changed
        if request.method == "PATCH" and int(request.headers["Content-Length"]) > 1_000_000 and not changed:
            changed = True
            with (folder / LARGE_PATH).open("r+b") as file:
                file.seek(1_900_000)
                file.write(b"other bytes")

    backend.before = change
    assert await agent.once(PATIENCE_S) == []
    assert changed
    assert backend.stored("robot_A", "picking") == contents(folder)


async def test_a_file_that_shrinks_while_it_is_sent(make_agent, backend, outputs):
    """A file that became shorter is not sent half; its shorter self is stored."""
    folder = make_dataset(outputs / "picking", files={LARGE_PATH: LARGE})
    agent = make_agent(parallel=1)
    shrunk = False

    async def shrink(request):
        nonlocal shrunk
        if request.method == "PATCH" and int(request.headers["Content-Length"]) > 1_000_000 and not shrunk:
            shrunk = True
            os.truncate(folder / LARGE_PATH, 500_000)

    backend.before = shrink
    assert await agent.once(PATIENCE_S) == []
    assert shrunk
    assert backend.stored("robot_A", "picking") == contents(folder)


async def test_what_vanishes_here_stays_there(make_agent, backend, outputs):
    """Nothing is deleted on the server; the next version is without the file."""
    folder = make_dataset(outputs / "picking", files={"meta/notes.md": b"notes"})
    agent = make_agent()
    assert await agent.once(PATIENCE_S) == []
    (folder / "meta/notes.md").unlink()
    assert await agent.once(PATIENCE_S) == []
    assert "meta/notes.md" in backend.paths("robot_A", "picking")
    versions = backend.versions_of("robot_A", "picking")
    assert ["meta/notes.md" in {file.path for file in version.files} for version in versions] == [True, False]


async def test_a_refused_file(make_agent, backend, outputs):
    """The other files go on; the dataset is failed with the server's words, and no version is made."""
    folder = make_dataset(outputs / "picking", files={"meta/notes.md": b"notes"})
    backend.refusals.append(("POST", "/files/plan", 422, "bad_input"))
    agent = make_agent()
    assert await agent.once(PATIENCE_S)
    row = row_of(agent, folder)
    assert row.state == "failed"
    assert "told to" in row.error
    assert len(backend.paths("robot_A", "picking")) == len(contents(folder)) - 1
    assert not backend.versions_of("robot_A", "picking")
    # Asked again, the server has nothing against it.
    assert await agent.once(PATIENCE_S) == []
    assert backend.stored("robot_A", "picking") == contents(folder)


async def test_a_refusal_that_may_pass(make_agent, backend, outputs):
    """What the server calls worth another try is tried again, whatever its status: nothing fails."""
    folder = make_dataset(outputs / "picking")
    backend.retryable = lambda _code: True
    backend.refusals.append(("POST", "/files/plan", 422, "of_a_later_release"))
    assert await make_agent().once(PATIENCE_S) == []
    assert not backend.refusals
    assert backend.stored("robot_A", "picking") == contents(folder)


async def test_a_proxy_that_is_not_set_up_yet(make_agent, backend, outputs):
    """What others than the backend answer fails no dataset: it waits, and goes once the backend answers."""
    folder = make_dataset(outputs / "picking")
    answers = [web.HTTPNotFound(), web.HTTPUnauthorized(), web.HTTPUnprocessableEntity(text="<html>")]

    async def proxy(request):
        if request.path == "/files/plan" and answers:
            raise answers.pop()

    backend.before = proxy
    assert await make_agent().once(PATIENCE_S) == []
    assert backend.stored("robot_A", "picking") == contents(folder)


async def test_a_server_that_lost_files(make_agent, backend, outputs):
    """If the server lacks what it once had, it gets it again."""
    folder = make_dataset(outputs / "picking")
    agent = make_agent()
    assert await agent.once(PATIENCE_S) == []
    backend.files.clear()
    backend.objects.clear()
    (folder / "meta/stats.json").write_text("{}")
    assert await agent.once(PATIENCE_S) == []
    assert backend.stored("robot_A", "picking") == contents(folder)


async def test_an_unsupported_dataset(make_agent, outputs):
    """A dataset of an older format is named with what to do, each time: it is only here."""
    (outputs / "old/meta").mkdir(parents=True)
    (outputs / "old/meta/info.json").write_text(json.dumps({"codebase_version": "v2.1", "total_episodes": 1}))
    agent = make_agent()
    for _ in range(2):
        (line,) = await agent.once(PATIENCE_S)
        assert line.startswith("old: unsupported: not backed up: its format is v2.1, and only v3.0 is")
        assert "convert_dataset_v21_to_v30" in line
    row = row_of(agent, outputs / "old")
    assert row.state == "unsupported"
    assert "v2.1" in row.reason
