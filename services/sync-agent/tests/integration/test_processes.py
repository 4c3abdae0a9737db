"""`sync-agent` as a process beside the real service: told to end, killed, cut off, short of disk."""

import asyncio
import json
import random
import shlex
import signal

from teleop_testing.datasets.dataset_folders import contents, flip_bit, make_dataset
from teleop_testing.waiting import PATIENCE_S, until

# What sockets and the relay hold of an upload when one of its ends dies.
ON_THE_WIRE_BYTES = 1_500_000
LARGE = random.Random(11).randbytes(6_000_000)
LARGE_PATH = "extra/file-000.mp4"


async def test_status_knows_whether_an_agent_runs(agent, outputs):
    """While it runs, and no longer from the moment that it ends in order."""
    make_dataset(outputs / "picking")
    assert agent.once().returncode == 0
    assert not agent.status()["running"]
    with agent.running("run", "--watch", outputs) as process:
        await until(lambda: agent.status()["running"])
        process.terminate()
        process.wait(PATIENCE_S)
        assert not agent.status()["running"]


async def test_ctrl_c(agent, outputs, tmp_path):
    """Both working commands end with the same code, that of a command that was interrupted."""
    with (tmp_path / "log").open("wb") as log, agent.running("run", "--watch", outputs, log=log) as process:
        await until(lambda: b'"watching"' in (tmp_path / "log").read_bytes())
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 130
    assert b"Traceback" not in (tmp_path / "log").read_bytes()


async def test_once_that_is_told_to_end(agent, outputs, tmp_path, line):
    """It has not brought everything, and says so."""
    make_dataset(outputs / "picking", files={LARGE_PATH: LARGE})
    arguments = ("once", "--watch", outputs, "--bandwidth", "1MB/s")
    with (tmp_path / "log").open("wb") as log, agent.running(*arguments, log=log) as process:
        await until(lambda: line.sent_bytes > 0)
        process.terminate()
        assert process.wait(PATIENCE_S) == 1
    assert b"sync-agent: stopped before everything was uploaded" in (tmp_path / "log").read_bytes()


async def test_killed_in_the_middle_of_a_file(agent, outputs, line):
    """An agent that is killed -9 in the middle of a file costs at most what was on the wire right then."""
    folder = make_dataset(outputs / "picking", files={LARGE_PATH: LARGE})
    for share in (0.2, 0.4, 0.6):
        with agent.running("run", "--watch", outputs, "--bandwidth", "2MB/s"):
            await until(lambda share=share: line.sent_bytes > share * len(LARGE))
    done = agent.once()
    assert done.returncode == 0, done.stderr
    assert agent("verify", "picking").returncode == 0
    size = sum(map(len, contents(folder).values()))
    assert line.sent_bytes < 1.05 * size + 3 * ON_THE_WIRE_BYTES


async def test_the_server_is_killed_and_the_line_cut(agent, outputs, line, service):
    """The agent waits for the server and goes on: nothing is sent twice but what was on the wire."""
    folder = make_dataset(outputs / "picking", files={LARGE_PATH: LARGE})
    with agent.running("run", "--watch", outputs, "--bandwidth", "2MB/s") as process:
        await until(lambda: line.sent_bytes > 0.2 * len(LARGE))
        service.kill()
        service.start()
        await until(lambda: line.sent_bytes > 0.5 * len(LARGE))
        line.cut()
        await asyncio.sleep(1.0)
        line.mend()
        await until(lambda: [dataset.get("state") for dataset in agent.status()["datasets"]] == ["stored"])
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    assert agent("verify", "picking").returncode == 0
    assert line.sent_bytes < 1.05 * sum(map(len, contents(folder).values())) + 2 * ON_THE_WIRE_BYTES


async def test_a_folder_that_is_not_there_yet(agent, outputs, tmp_path):
    """`run` makes it and says so, for a recording that is yet to come."""
    with (tmp_path / "log").open("wb") as log, agent.running("run", "--watch", outputs / "later", log=log):
        await until(lambda: (outputs / "later/.uploaded/sync-agent.lock").exists())
        await until(lambda: b'"watching"' in (tmp_path / "log").read_bytes())
    told = json.loads((tmp_path / "log").read_bytes().splitlines()[0])
    assert told["event"] == "the watched folder did not exist and was created"
    assert told["root"] == str(outputs / "later")


async def test_two_agents(agent, outputs):
    """The second one says who has the folder, and ends with a code of its own."""
    with agent.running("run", "--watch", outputs):
        await until(lambda: (outputs / ".uploaded/sync-agent.lock").exists())
        second = agent.once()
        assert second.returncode == 3
        assert "another sync-agent" in second.stderr
    assert agent.once().returncode == 0


async def test_reclaiming(agent, outputs, tmp_path):
    """Only a dataset that is proven goes; not one without a receipt, with more in it, or damaged there."""
    proven = make_dataset(outputs / "proven", files={LARGE_PATH: LARGE})
    unproven = make_dataset(outputs / "unproven")
    more = make_dataset(outputs / "more")
    damaged = make_dataset(outputs / "damaged", files={"extra/own.json": b"its own bytes"})
    assert agent.once().returncode == 0
    stored = tmp_path / "store/robot_A/damaged/extra/own.json"
    stored.chmod(0o644)
    flip_bit(stored)
    (outputs / ".uploaded/unproven/meta/info.json.json").unlink()
    (more / ".cache/huggingface").mkdir(parents=True)
    (more / ".cache/huggingface/notes").write_bytes(b"no file of a dataset")
    kept = contents(unproven), contents(more), contents(damaged)
    with agent.running("run", "--watch", outputs, "--reclaim-when-below", "1000TB"):
        await until(lambda: not proven.exists())
        await asyncio.sleep(5.0)
        assert {d["name"]: d["state"] for d in agent.status()["datasets"]}["proven"] == "reclaimed"
    assert (contents(unproven), contents(more), contents(damaged)) == kept
    note = json.loads((outputs / ".uploaded/proven/reclaimed.json").read_text())
    assert (note["dataset"], note["version"]) == ("proven", 1)
    verified = agent("verify", "proven")
    assert verified.returncode == 0
    (line,) = verified.stdout.splitlines()
    assert line.startswith("proven: deleted here to free space; the server's copy is whole, ")
    pasted = shlex.split(note["restore"])
    assert pasted.pop(0) == "sync-agent"
    del agent.environment["LEROBOT_BACKEND_URL"], agent.environment["LEROBOT_BACKEND_ROBOT_ID"]
    assert agent(*pasted).returncode == 0
    assert contents(outputs.parent / "outputs-restored/proven")[LARGE_PATH] == LARGE


async def test_nothing_is_reclaimed_unasked(agent, outputs):
    """Without the flag nothing is ever deleted."""
    folder = make_dataset(outputs / "picking")
    before = contents(folder)
    with agent.running("run", "--watch", outputs):
        await until(lambda: [dataset.get("state") for dataset in agent.status()["datasets"]] == ["stored"])
        await asyncio.sleep(2.0)
    assert contents(folder) == before
