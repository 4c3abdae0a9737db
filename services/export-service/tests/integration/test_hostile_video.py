"""Video that was made to harm, and has come past every check: an export of it costs one confined process."""

import os
import resource
import signal
import sys
from pathlib import Path

import pytest
from teleop_export.making import media_process
from teleop_runtime.store import open_store
from teleop_testing.datasets.hostile_video import HOSTILE
from teleop_testing.machine.memory import peak_bytes

MOST_BYTES = 512 * 1024**2
MOST_OF_A_CHILD_BYTES = 2.5 * 1024**3


@pytest.fixture
def replaced(store):
    """Puts other bytes where a video's are, as no service would."""

    def replaced(video, content: bytes) -> None:
        for sha256 in video:
            path = open_store(str(store)).file_here(sha256)
            path.chmod(0o600)
            path.write_bytes(content)

    return replaced


@pytest.mark.parametrize("kind", HOSTILE)
async def test_hostile_video_ends_its_own_export_at_most(backend, record, film, replaced, database, kind):
    """Whatever it is, its export is done or failed with a reason, in bounded memory; the next one is made."""
    before = peak_bytes()
    session = await record(100, episodes=[(0, 100)])
    await film(session, 100, same_pictures=True)
    rows = await database.fetch("SELECT sha256 FROM video_chunk")
    replaced([row["sha256"] for row in rows], HOSTILE[kind]())
    made = await backend.ended((await backend.ask(session))["id"])
    assert made["status"] == "done" or made["error"]["code"] == "video_unreadable", made
    assert peak_bytes() - before < MOST_BYTES
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 < MOST_OF_A_CHILD_BYTES
    healthy = await record(100, episodes=[(0, 100)])
    await backend.export(healthy)


DYING = """
import os, signal
from teleop_export.making import media_worker
media_worker.PictureFile.decode = lambda *about: os._exit(3) if {signal} == 9 else os.abort()
media_worker.main()
"""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGABRT, "video_unreadable"), (signal.SIGKILL, "media_ended")]
)
async def test_only_a_crash_is_the_videos_fault(backend, record, film, monkeypatch, number, code):
    """Whoever ends the process otherwise has said nothing of the video: it is tried again, not for ever."""
    monkeypatch.setattr("teleop_export.tables.export_table.MAX_ATTEMPTS", 2)
    program = DYING.format(signal=int(number))
    monkeypatch.setattr(media_process, "WORKER", (sys.executable, "-P", "-c", program))
    session = await record(100, episodes=[(0, 100)])
    await film(session, 100)
    made = await backend.ended((await backend.ask(session))["id"])
    assert (made["status"], made["error"]["code"]) == ("failed", code)


def test_decoding_knows_no_secret(monkeypatch):
    """Of the server's environment it has what programs need to run."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    pool = media_process.MediaPool()
    with pool.lend(None) as media:
        environment = Path(f"/proc/{media.pid}/environ").read_bytes()
    pool.close()
    assert b"hf_secret" not in environment
    assert os.environ["PATH"].encode() in environment
