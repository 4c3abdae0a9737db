"""A server that forgets what it has confirmed: it is asked, and gets it again."""

import shutil

import pytest
from teleop_sync_agent.errors import Stuck
from teleop_sync_agent.sending import recall
from teleop_sync_agent.sending.datasets import GONE_THERE
from teleop_sync_agent.status import describe_note, headline, read_status
from teleop_testing.datasets.dataset_folders import contents, make_dataset
from teleop_testing.waiting import PATIENCE_S, until


def row_of(agent, folder):
    return agent.state.dataset(str(folder))


async def test_a_server_that_forgot_everything(make_agent, backend, outputs):
    """A closed dataset that nobody has touched is brought again, byte for byte; then it is safe."""
    folder = make_dataset(outputs / "picking")
    agent = make_agent()
    assert await agent.once(PATIENCE_S) == []
    agent.close()
    backend.forget()
    agent = make_agent()
    assert await agent.once(PATIENCE_S) == []
    assert backend.stored("robot_A", "picking") == contents(folder)
    assert len(backend.versions["robot_A", "picking"]) == 1
    assert (row_of(agent, folder).state, row_of(agent, folder).again) == ("stored", "")


async def test_a_running_agent_asks_again_and_again(make_agent, backend, outputs, running, monkeypatch):
    """What it brought before, too; `status` says why it is brought again until it is there."""
    monkeypatch.setattr(recall, "ASK_EVERY_S", 0.05)
    folder = make_dataset(outputs / "picking")
    told = set()
    agent = make_agent()
    async with running(agent):
        await until(lambda: ("robot_A", "picking") in backend.versions)
        note, refused = agent.datasets.note, backend.refusals
        await until(lambda: row_of(agent, folder).state == "stored")

        async def listen(tended, **changes):
            await note(tended, **changes)
            told.add((tended.row.state, describe_note(tended.row)))

        agent.datasets.note = listen
        refused += [("POST", "/files/plan", 503, "storage_unavailable")] * 2
        backend.forget()
        await until(lambda: ("robot_A", "picking") in backend.versions)
        await until(lambda: row_of(agent, folder).again == "")
    assert ("waiting", "sent again: the server no longer knows it") in told
    assert backend.stored("robot_A", "picking") == contents(folder)


async def test_a_server_that_knows_is_sent_nothing(make_agent, backend, outputs):
    """Asked once for all of it; the answer costs no upload."""
    for number in range(3):
        make_dataset(outputs / f"picking{number}")
    agent = make_agent()
    assert await agent.once(PATIENCE_S) == []
    agent.close()
    backend.requests.clear()
    assert await make_agent().once(PATIENCE_S) == []
    assert backend.requests == ["POST /files/known"]


async def test_nothing_is_called_safe_by_heart(make_agent, backend, outputs):
    """While the server can't be asked, `once` does not say that it has everything."""
    make_dataset(outputs / "picking")
    agent = make_agent()
    assert await agent.once(PATIENCE_S) == []
    agent.close()
    backend.refusals += [("POST", "/files/known", 503, "storage_unavailable")] * 100
    with pytest.raises(Stuck, match="storage_unavailable"):
        await make_agent().once(1.0)


async def test_a_server_of_an_older_release(make_agent, backend, outputs):
    """It can't tell what it knows: the agent's own memory has to do."""
    make_dataset(outputs / "picking")
    agent = make_agent()
    assert await agent.once(PATIENCE_S) == []
    agent.close()
    backend.refusals.append(("POST", "/files/known", 405, "method_not_allowed"))
    assert await make_agent().once(PATIENCE_S) == []


async def test_nothing_is_safe_where_no_backend_is(make_agent, backend):
    """With nothing to send, too: a path that leads to nothing is no older release."""
    with pytest.raises(Stuck, match="is not the address of a backend"):
        await make_agent(server=f"{backend.url}/elsewhere").once(1.0)


async def test_status_tells_when_the_server_answered(make_agent, backend, running):
    """So that somebody who sends nothing sees whether it can be reached."""
    agent = make_agent()
    assert "has not answered yet" not in headline(read_status("robot_A", agent.state))
    async with running(agent):
        await until(lambda: "(answered at " in headline(read_status("robot_A", agent.state)))
    backend.refusals += [("POST", "/files/known", 503, "storage_unavailable")] * 100
    async with running(again := make_agent()):
        line = await until(
            lambda: (told := headline(read_status("robot_A", again.state))).endswith("told to") and told
        )
    assert "(has not answered yet)" in line


async def test_what_is_not_here_either(make_agent, backend, outputs):
    """A dataset that was removed here once it was stored is told as lost, until the server knows it again."""
    folder = make_dataset(outputs / "picking")
    agent = make_agent()
    assert await agent.once(PATIENCE_S) == []
    versions = dict(backend.versions)
    shutil.rmtree(folder)
    backend.forget()
    for _ in range(2):
        agent.close()
        agent = make_agent()
        assert await agent.once(PATIENCE_S) == [f"picking: lost: {GONE_THERE}"]
        row = row_of(agent, folder)
        assert row.state == "lost"
        assert "lerobot-backend adopt" in describe_note(row)
    backend.versions.update(versions)
    agent.close()
    agent = make_agent()
    assert await agent.once(PATIENCE_S) == []
    assert (row_of(agent, folder).state, row_of(agent, folder).error) == ("stored", None)


async def test_what_was_removed_beside_a_running_agent(make_agent, backend, outputs, running):
    """The server is asked for it all the same: nobody else has it."""
    folder = make_dataset(outputs / "picking")
    agent = make_agent()
    async with running(agent):
        await until(lambda: (row := row_of(agent, folder)) and row.state == "stored")
        shutil.rmtree(folder)
        agent.datasets.tended[folder].hinted.set()
        await until(lambda: row_of(agent, folder).state == "gone")
    backend.forget()
    assert await make_agent().once(PATIENCE_S) == [f"picking: lost: {GONE_THERE}"]


async def test_what_was_removed_is_asked_of_another_server(make_agent, backend, outputs):
    """A server under a new address may be another one, which has nothing of it."""
    folder = make_dataset(outputs / "picking")
    agent = make_agent()
    assert await agent.once(PATIENCE_S) == []
    agent.close()
    shutil.rmtree(folder)
    backend.forget()
    agent = make_agent(server=backend.url.replace("127.0.0.1", "localhost"))
    assert await agent.once(PATIENCE_S) == [f"picking: lost: {GONE_THERE}"]


async def test_its_own_newer_version_is_not_taken_for_anothers(make_agent, backend, outputs):
    """While a dataset is being sent, the server may have its newest version before the agent knows."""
    folder = make_dataset(outputs / "picking")
    agent = make_agent()
    assert await agent.once(PATIENCE_S) == []
    (tended,) = agent.datasets.tended.values()
    held = tended.row
    await agent.datasets.note(tended, state="sending")
    assert not await agent.datasets.note_overtaken(held, 2)
    assert row_of(agent, folder).overtaken_by is None
    await agent.datasets.note(tended, state="stored")
    assert await agent.datasets.note_overtaken(held, 2)
    assert (row_of(agent, folder).overtaken_by, tended.row.overtaken_by) == (2, 2)
    assert not await agent.datasets.note_overtaken(held, None)
    assert row_of(agent, folder).overtaken_by is None


async def test_another_database_is_remembered(make_agent, backend, outputs, caplog):
    """The agent knows which one it spoke with, and says when it is another."""
    make_dataset(outputs / "picking")
    agent = make_agent()
    assert await agent.once(PATIENCE_S) == []
    assert await agent.once(PATIENCE_S) == []
    assert agent.state.note(recall.INSTALLATION_NOTE) == str(backend.installation).encode()
    backend.forget()
    assert await agent.once(PATIENCE_S) == []
    assert agent.state.note(recall.INSTALLATION_NOTE) == str(backend.installation).encode()
    assert "another database" in caplog.text


async def test_the_memory_of_an_older_agent(make_agent, backend, outputs):
    """It does not know the hash of its version: the version is committed once more, and no byte is sent."""
    folder = make_dataset(outputs / "picking")
    agent = make_agent()
    assert await agent.once(PATIENCE_S) == []
    row = row_of(agent, folder)
    agent.state._ask(
        "UPDATE dataset SET row = json_remove(row, '$.manifest_sha256') WHERE folder = ?", (str(folder),)
    )
    assert row_of(agent, folder).manifest_sha256 == ""
    agent.close()
    received = backend.received_bytes
    agent = make_agent()
    assert await agent.once(PATIENCE_S) == []
    assert row_of(agent, folder).manifest_sha256 == row.manifest_sha256
    assert backend.received_bytes == received


def test_what_is_brought_again_is_told(make_agent):
    """In a line of its own."""
    agent = make_agent()
    agent.spool.now.again_streams, agent.spool.now.again_segments = 1, 7
    agent._tell(agent._now())
    lines = headline(read_status("robot_A", agent.state)).splitlines()
    told = (
        "the samples of 1 stream and 7 video segments are sent again, because the server no longer knew them"
    )
    assert lines[1:] == [f"  {told}"]
