"""`sync-agent` as a process, against the real service, killed and started again."""

import asyncio
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from teleop_backend.demo.relay import Relay, relay_to
from teleop_schema.words import size_text
from teleop_testing.backends.processes import ServiceProcess, ingest_process
from teleop_testing.datasets.dataset_folders import contents, make_dataset
from teleop_testing.waiting import PATIENCE_S, until

# Root reads what it may not, unless it lets go of that.
WITHOUT_POWERS = (
    ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    if os.geteuid() == 0 and shutil.which("setpriv")
    else []
)
# What sockets and the relay hold of an upload when one of its ends dies.
ON_THE_WIRE_BYTES = 1_500_000
LARGE = random.Random(11).randbytes(6_000_000)
LARGE_PATH = "extra/file-000.mp4"


class Commands:
    """Runs `sync-agent` for robot_A with everything in one folder."""

    def __init__(self, folder: Path, server: str, outputs: Path) -> None:
        self.environment = {
            **os.environ,
            "XDG_STATE_HOME": str(folder / "state"),
            "LEROBOT_BACKEND_SPOOL": str(folder / "spool"),
            "LEROBOT_BACKEND_URL": server,
            "LEROBOT_BACKEND_ROBOT_ID": "robot_A",
        }
        self.outputs = outputs
        self.prefix: list[str] = []

    def __call__(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._command(arguments), env=self.environment, capture_output=True, text=True, timeout=PATIENCE_S
        )

    @contextmanager
    def running(
        self, *arguments: object, log: int | IO[bytes] = subprocess.DEVNULL
    ) -> Iterator[subprocess.Popen[bytes]]:
        """The command as a process, which is killed -9 in the end unless it is over by then."""
        process = subprocess.Popen(self._command(arguments), env=self.environment, stderr=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def once(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return self("once", "--watch", self.outputs, *arguments)

    def _command(self, arguments: tuple[object, ...]) -> list[str]:
        return [*self.prefix, sys.executable, "-m", "teleop_sync_agent.cli", *map(str, arguments)]


@pytest.fixture
def service(database_url: str, tmp_path: Path) -> Iterator[ServiceProcess]:
    with ingest_process(database_url, tmp_path / "store") as service:
        yield service


@pytest.fixture
def line(service: ServiceProcess) -> Iterator[Relay]:
    with relay_to(service.port) as line:
        yield line


@pytest.fixture
def agent(tmp_path: Path, line: Relay, outputs: Path) -> Commands:
    return Commands(tmp_path, f"http://127.0.0.1:{line.port}", outputs)


async def test_there_and_back(agent, outputs, tmp_path):
    """once, verify and restore: the same bytes everywhere."""
    folder = make_dataset(outputs / "me/picking", files={LARGE_PATH: LARGE})
    done = agent.once()
    assert done.returncode == 0, done.stderr
    verified = agent("verify", "me/picking")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "the same here and on the server" in verified.stdout
    restored = agent("restore", "me/picking", "--into", tmp_path / "back")
    assert restored.returncode == 0, restored.stderr
    assert contents(tmp_path / "back/me/picking") == contents(folder)
    again = agent("restore", "me/picking", "--into", tmp_path / "back")
    assert again.returncode == 2
    assert "already exists" in again.stderr


async def test_two_computers_under_one_name(agent, outputs, line, tmp_path):
    """Each dataset stays whole on the server; whose is not the newest is told so, and what to do."""
    other = Commands(tmp_path / "other", f"http://127.0.0.1:{line.port}", tmp_path / "other/outputs")
    folder = make_dataset(outputs / "picking", files={"meta/whose.json": b"mine"})
    make_dataset(other.outputs / "picking", files={"meta/whose.json": b"its"})
    assert agent.once().returncode == 0
    assert "another computer" not in agent("status").stdout
    assert other.once().returncode == 0
    told = (
        "another computer has since stored a different dataset under this name, as version 2; yours is "
        "version 1, and stays there: give this computer a robot_id of its own"
    )
    done = agent.once()
    assert (done.returncode, f"picking: {told}" in done.stderr) == (0, True), done.stderr
    assert told in agent("status").stdout
    verified = agent("verify", "picking")
    assert verified.returncode == 1
    assert f"picking: {told}" in verified.stdout
    assert "the same here and on the server, as version 1" in verified.stdout
    assert agent("restore", "picking", "--version", 1, "--into", tmp_path / "back").returncode == 0
    assert contents(tmp_path / "back/picking") == contents(folder)
    assert other("verify", "picking").returncode == 0
    # What is stored after that is the newest.
    (folder / "meta/whose.json").write_bytes(b"mine again")
    assert agent.once().returncode == 0
    assert "another computer" not in agent("status").stdout


async def test_names_that_the_server_has_no_place_for(agent, outputs, tmp_path):
    """They are stored under escaped names; restore gives each its own name back, byte for byte."""
    strange = ["arm:left.json", "run.sh", "a\\b\n.json", os.fsdecode(b"\xff.txt"), "x:y/e\u0301.json"]
    # Files that are called as others are stored.
    strange += ["arm%3Aleft.json", "arm%3Aleft.json.escaped", "run.sh.escaped"]
    # A hidden file of every dataset of the Hub.
    strange += [".gitattributes"]
    folder = make_dataset(outputs / "picking", files={name: os.fsencode(name) for name in strange})
    done = agent.once()
    assert done.returncode == 0, done.stderr
    verified = agent("verify", "picking")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert (tmp_path / "store/robot_A/picking/arm%3Aleft.json.escaped").read_bytes() == b"arm:left.json"
    assert agent("restore", "picking", "--into", tmp_path / "back").returncode == 0
    assert contents(tmp_path / "back/picking") == contents(folder)
    assert all((tmp_path / "back/picking" / name).read_bytes() == os.fsencode(name) for name in strange)
    (folder / "run.sh").write_bytes(b"false")
    differs = agent("verify", "picking")
    assert differs.returncode == 1
    assert "picking/run.sh.escaped: 5 bytes here, 6 on the server" in differs.stdout


async def test_what_is_left_out_is_named(agent, outputs, tmp_path):
    """Links, pipes, and names that are too long to be escaped: both commands name each, and why."""
    long = ":" * 100
    folder = make_dataset(outputs / "picking", files={long: b"mine"})
    (folder / "meta/link.json").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe.json")
    reasons = {
        long: "a part has more than 255 bytes (escaped, as its own name can't be stored)",
        "meta/link.json": "a symbolic link",
        "pipe.json": "neither a file nor a folder",
    }
    # The second finds everything stored, and looks at nothing again.
    for _ in range(2):
        done = agent.once()
        assert done.returncode == 1
        for path, reason in reasons.items():
            assert any(
                f"picking: left out: {path}: " in line and reason in line for line in done.stderr.splitlines()
            )
    verified = agent("verify", "picking")
    assert verified.returncode == 1
    for path, reason in reasons.items():
        assert any(
            f"picking/{path}: left out" in line and reason in line for line in verified.stdout.splitlines()
        )
    assert "the same here and on the server, except for 3 left out" in verified.stdout


async def test_verify_finds_a_flipped_bit(agent, outputs, tmp_path):
    """A bit that flipped here, and one that flipped there, are both found and named."""
    folder = make_dataset(outputs / "picking", files={LARGE_PATH: LARGE})
    assert agent.once().returncode == 0
    flip(folder / LARGE_PATH)
    here = agent("verify", folder)
    assert here.returncode == 1
    assert f"picking/{LARGE_PATH}: its bytes do not match its receipt" in here.stdout
    assert f"picking/{LARGE_PATH}: other bytes here than on the server" in here.stdout
    flip(folder / LARGE_PATH)
    stored = tmp_path / "store/robot_A/picking/meta/info.json"
    stored.chmod(0o644)
    flip(stored)
    there = agent("verify", folder)
    assert there.returncode == 1
    assert "picking/meta/info.json: damaged on the server" in there.stdout


async def test_status_knows_whether_an_agent_runs(agent, outputs):
    """While it runs, and no longer from the moment that it ends in order."""
    make_dataset(outputs / "picking")
    assert agent.once().returncode == 0
    assert not status(agent)["running"]
    with agent.running("run", "--watch", outputs) as process:
        await until(lambda: status(agent)["running"])
        process.terminate()
        process.wait(PATIENCE_S)
        assert not status(agent)["running"]


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
        await until(lambda: [dataset.get("state") for dataset in status(agent)["datasets"]] == ["stored"])
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    assert agent("verify", "picking").returncode == 0
    assert line.sent_bytes < 1.05 * sum(map(len, contents(folder).values())) + 2 * ON_THE_WIRE_BYTES


async def test_status(agent, outputs):
    """The table and its JSON tell how each dataset stands."""
    assert agent("status").returncode == 2
    make_dataset(outputs / "picking")
    assert agent.once().returncode == 0
    told = status(agent)
    (dataset,) = told["datasets"]
    assert (dataset["state"], dataset["saved_episodes"], dataset["version"]) == ("stored", 2, 1)
    shown = agent("status").stdout
    assert "picking" in shown
    assert "2 of 2" in shown
    assert f" {size_text(dataset['size_bytes'])} " in shown


async def test_names_stay_whole_in_a_pipe(agent, outputs):
    """Only a terminal is a reason to fold a long name."""
    name = "/".join(["somebody_with_a_long_name", "picking_" * 12])
    make_dataset(outputs / name)
    assert agent.once().returncode == 0
    assert f" {name} " in agent("status").stdout


async def test_a_server_out_of_reach(tmp_path, outputs):
    """`once` gives up after its timeout, with a code of its own, and loses nothing."""
    make_dataset(outputs / "picking")
    done = Commands(tmp_path, "http://127.0.0.1:9", outputs).once("--timeout", "1")
    assert done.returncode == 75, done.stderr
    assert "no backend could be reached for 1 seconds: http://127.0.0.1:9: Connection refused" in done.stderr
    assert "is it running, and is this its address?" in done.stderr


@pytest.mark.parametrize(
    ("answer", "told"),
    [(b"HTTP/1.1 404 Not Found\r\n\r\n<html>", "answers 404 to "), (b"", "does not answer")],
)
async def test_a_server_that_is_no_backend(tmp_path, outputs, answer, told):
    """One that speaks of something else, or takes connections and is silent, is as good as away."""
    make_dataset(outputs / "picking")

    writers = []

    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(answer)
        if answer:
            writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        agent = Commands(tmp_path, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", outputs)
        done = await asyncio.to_thread(agent.once, "--timeout", "1")
        for writer in writers:
            writer.close()
    assert done.returncode == 75, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_folder_that_is_not_there_yet(agent, outputs, tmp_path):
    """`run` makes it and says so, for a recording that is yet to come."""
    with (tmp_path / "log").open("wb") as log, agent.running("run", "--watch", outputs / "later", log=log):
        await until(lambda: (outputs / "later/.uploaded/sync-agent.lock").exists())
        await until(lambda: b'"watching"' in (tmp_path / "log").read_bytes())
    told = json.loads((tmp_path / "log").read_bytes().splitlines()[0])
    assert told["event"] == "the watched folder did not exist and was created"
    assert told["root"] == str(outputs / "later")


@pytest.mark.skipif(not WITHOUT_POWERS and os.geteuid() == 0, reason="root may read everything")
async def test_what_may_not_be_read_is_not_called_safe(agent, outputs, tmp_path):
    """A folder of somebody else is refused, a file is named and fails verify."""
    folder = make_dataset(outputs / "picking")
    agent.prefix = WITHOUT_POWERS
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o300)
    for arguments in (("once", "--watch", closed), ("once", "--watch", closed / "in", "--spool", closed)):
        refused = agent(*arguments)
        assert refused.returncode == 2
        assert "Traceback" not in refused.stderr
    assert f"{closed} can't be read" in agent("once", "--watch", closed).stderr
    (folder / "meta/tasks.parquet").chmod(0)
    done = agent.once()
    assert done.returncode == 1
    assert "left out: meta/tasks.parquet: unreadable" in done.stderr
    verified = agent("verify", "picking")
    assert verified.returncode == 1
    assert "picking/meta/tasks.parquet: unreadable" in verified.stdout


async def test_two_agents(agent, outputs):
    """The second one says who has the folder, and ends with a code of its own."""
    with agent.running("run", "--watch", outputs):
        await until(lambda: (outputs / ".uploaded/sync-agent.lock").exists())
        second = agent.once()
        assert second.returncode == 3
        assert "another sync-agent" in second.stderr
    assert agent.once().returncode == 0


async def test_mistakes(agent, outputs):
    """What can't be done says what to do, with exit code 2."""
    for arguments, told in [
        (("once", "--watch", outputs, "--bandwidth", "fast"), "--bandwidth"),
        (("run", "--watch", outputs, "--between", "now"), "--between"),
        (("verify", "nothing"), "no agent has run"),
        (("pause",), "no agent has run"),
        (("once", "--watch", outputs / "mistyped"), "does not exist"),
        (("once", "--watch", outputs, "--spool", outputs / "mistyped"), "does not exist"),
        (("repair", outputs / "mistyped"), "is not a folder"),
        (("repair", outputs, "--info", outputs / "mistyped"), "is not a file"),
        (("once", "--robot_id", "robot A"), "robot_id 'robot A' is not 1 to 64 "),
        (("restore", "../picking", "--into", outputs / "x"), "dataset '../picking'"),
        (("once", "--watch", outputs, "--timeout", "nan"), "not a number of seconds"),
    ]:
        done = agent(*arguments)
        assert done.returncode == 2, done.stderr
        assert told in done.stderr
        assert "Traceback" not in done.stderr
    assert not (outputs / "mistyped").exists()
    no_dataset = agent("repair", outputs)
    assert (no_dataset.returncode, "so this is not a dataset" in no_dataset.stderr) == (1, True)
    assert agent("restore", "nothing", "--into", outputs / "x").returncode == 1


async def test_reclaiming(agent, outputs, tmp_path):
    """Only a dataset that is proven goes; not one without a receipt, with more in it, or damaged there."""
    proven = make_dataset(outputs / "proven", files={LARGE_PATH: LARGE})
    unproven = make_dataset(outputs / "unproven")
    more = make_dataset(outputs / "more")
    damaged = make_dataset(outputs / "damaged", files={"extra/own.json": b"its own bytes"})
    assert agent.once().returncode == 0
    stored = tmp_path / "store/robot_A/damaged/extra/own.json"
    stored.chmod(0o644)
    flip(stored)
    (outputs / ".uploaded/unproven/meta/info.json.json").unlink()
    (more / ".cache/huggingface").mkdir(parents=True)
    (more / ".cache/huggingface/notes").write_bytes(b"no file of a dataset")
    kept = contents(unproven), contents(more), contents(damaged)
    with agent.running("run", "--watch", outputs, "--reclaim-when-below", "1000TB"):
        await until(lambda: not proven.exists())
        await asyncio.sleep(5.0)
        assert {d["name"]: d["state"] for d in status(agent)["datasets"]}["proven"] == "reclaimed"
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
        await until(lambda: [dataset.get("state") for dataset in status(agent)["datasets"]] == ["stored"])
        await asyncio.sleep(2.0)
    assert contents(folder) == before


def status(agent: Commands) -> dict:
    done = agent("status", "--json")
    return json.loads(done.stdout) if done.returncode == 0 else {"datasets": [{"state": ""}]}


def flip(path: Path) -> None:
    """Flip a bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
