"""What a process for untrusted files can still do once it is confined."""

import os
import subprocess
import sys

import pytest
from teleop_runtime.confined.handed import HandedFile, receive, send
from teleop_runtime.confined.memory import LEAST_BYTES, budget_bytes, memory_bytes
from teleop_runtime.confined.start import channel, command_of, worker_environment
from teleop_testing.waiting import PATIENCE_S

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux confines processes in these ways")

CONFINED = """
import os, resource, socket, sys, threading
from pathlib import Path
from teleop_runtime.confined.sandbox import Bounds, confine
missing = confine(Bounds(2**30, 0, 64){more})
assert missing == [], missing
try:
    {attempt}
except (OSError, MemoryError) as error:
    print(type(error).__name__)
else:
    print("done")
"""


def attempt(code: str, *, more: str = "") -> str:
    """How it ends in a confined process."""
    program = CONFINED.format(attempt=code, more=more)
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        capture_output=True,
        text=True,
        env=worker_environment(),
        timeout=PATIENCE_S,
    )
    return done.stdout.strip() or f"{done.returncode}: {done.stderr}"


@pytest.mark.parametrize(
    "code",
    [
        "socket.socket()",
        "socket.socketpair()",
        "open('/etc/passwd')",
        "os.listdir('/')",
        "os.mkdir('/tmp/confined')",
        "os.unlink('/tmp/confined')",
        "os.fork()",
        "os.execv('/bin/true', ['true'])",
        "os.kill(os.getppid(), 0)",
        "resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE)",
    ],
)
def test_nothing_outside_can_be_reached(code):
    """No network, no file, no other process, no other program."""
    assert attempt(code) == "PermissionError"


def test_memory_has_an_end():
    """Beyond what the program itself takes."""
    assert attempt("bytearray(2**29)") == "done"
    assert attempt("bytearray(2**31)") == "MemoryError"


def test_threads_and_what_is_open_are_left():
    """A decoder may have threads; standard output is how it answers."""
    assert attempt("[t.start() or t.join() for t in [threading.Thread(target=print)]]") == "done"


def test_a_program_for_whole_datasets_opens_its_own_folders_only(tmp_path):
    """It reads what it may read, and writes where it may write; there is still no network."""
    readable, writable, other = (tmp_path / name for name in ("readable", "writable", "other"))
    for folder in (readable, writable, other):
        folder.mkdir()
        (folder / "file").write_text("text")
    more = f", read=[Path('{readable}')], write=[Path('{writable}')]"
    # A file that it makes may have no bytes here: of those there are none allowed.
    found = {
        code: attempt(code, more=more)
        for code in (
            f"open('{readable}/file').read()",
            f"open('{writable}/new', 'w')",
            "import tarfile, sqlite3",
            f"open('{readable}/file', 'a')",
            f"open('{other}/file')",
            f"os.listdir('{other}')",
            f"os.link('{readable}/file', '{other}/link')",
            "socket.socket()",
        )
    }
    assert list(found.values()) == ["done"] * 3 + ["PermissionError"] * 5


def test_memory_follows_from_the_container(tmp_path):
    """The lesser of the machine's and its container's limits; never too little for ordinary video."""
    limit = tmp_path / "memory.max"
    assert memory_bytes((limit,)) == memory_bytes(())
    for text, found in (("max\n", memory_bytes(())), ("4294967296\n", 4 * 1024**3)):
        limit.write_text(text)
        assert memory_bytes((limit,)) == found
    most = 2 * 1024**3
    assert [budget_bytes(most, each * 1024**3) for each in (1, 4, 64)] == [LEAST_BYTES, 1024**3, most]


def test_an_open_file_is_handed_over(tmp_path):
    """With the message; each reader of it has a position of its own."""
    path = tmp_path / "file"
    path.write_bytes(bytes(range(100)))
    ours, theirs = channel()
    with ours, theirs, path.open("rb") as file:
        send(ours, b"question", [file.fileno()])
        send(ours, b"")
        message, files = receive(theirs)
        assert receive(theirs) == (b"", [])
        ours.close()
        assert receive(theirs) is None
    one, other = HandedFile(files[0]), HandedFile(files[0])
    assert one.seek(-10, os.SEEK_END) == 90
    assert (message, one.read(), other.read(3), other.tell(), other.size_bytes) == (
        b"question",
        bytes(range(90, 100)),
        bytes(range(3)),
        3,
        100,
    )
    os.close(files[0])


def test_no_secret_is_inherited(monkeypatch):
    """Programs get what they need to run."""
    for name in ("HF_TOKEN", "DATABASE_URL", "AWS_SECRET_ACCESS_KEY", "LEROBOT_BACKEND_TOKEN", "PGPASSWORD"):
        monkeypatch.setenv(name, "a-secret")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    environment = worker_environment()
    assert environment["LC_ALL"] == "C.UTF-8"
    assert environment["PATH"] == os.environ["PATH"]
    assert "a-secret" not in environment.values()
    # The working folder of a server may hold anything, and is not looked into for modules.
    assert command_of("module")[1:] == ("-P", "-m", "module")
