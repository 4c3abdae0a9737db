"""What the commands of `sync-agent` do and say, against the real service."""

import asyncio
import os
import random
import shutil

import pytest
from teleop_schema.words import size_text
from teleop_testing.datasets.dataset_folders import contents, flip_bit, make_dataset
from teleop_testing.robots.agent_commands import AgentCommands

# Root reads what it may not, unless it lets go of that.
WITHOUT_POWERS = (
    ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    if os.geteuid() == 0 and shutil.which("setpriv")
    else []
)
LARGE = random.Random(11).randbytes(6_000_000)
LARGE_PATH = "extra/file-000.mp4"


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
    other = AgentCommands(tmp_path / "other", f"http://127.0.0.1:{line.port}", tmp_path / "other/outputs")
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
    flip_bit(folder / LARGE_PATH)
    here = agent("verify", folder)
    assert here.returncode == 1
    assert f"picking/{LARGE_PATH}: its bytes do not match its receipt" in here.stdout
    assert f"picking/{LARGE_PATH}: other bytes here than on the server" in here.stdout
    flip_bit(folder / LARGE_PATH)
    stored = tmp_path / "store/robot_A/picking/meta/info.json"
    stored.chmod(0o644)
    flip_bit(stored)
    there = agent("verify", folder)
    assert there.returncode == 1
    assert "picking/meta/info.json: damaged on the server" in there.stdout


async def test_status(agent, outputs):
    """The table and its JSON tell how each dataset stands."""
    assert agent("status").returncode == 2
    make_dataset(outputs / "picking")
    assert agent.once().returncode == 0
    told = agent.status()
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
    done = AgentCommands(tmp_path, "http://127.0.0.1:9", outputs).once("--timeout", "1")
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
        agent = AgentCommands(tmp_path, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", outputs)
        done = await asyncio.to_thread(agent.once, "--timeout", "1")
        for writer in writers:
            writer.close()
    assert done.returncode == 75, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr


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
