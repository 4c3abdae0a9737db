"""The whole stack stopped and started; copied while it runs, and brought back elsewhere."""

import asyncio
import subprocess
from pathlib import Path

import httpx
import pytest
from stack import CONTENTS, REPOSITORY, Stack, in_thread
from teleop_testing.backends.processes import free_port
from teleop_testing.waiting import PATIENCE_S
from test_replicas import streaming
from uploads import keep_uploading


@pytest.fixture
def other_stack(engine):
    """A second stack, with nothing in it."""
    stack = Stack(engine, "lerobot-backend-test-restored", free_port())
    stack.remove()
    yield stack
    stack.remove()


def authority_of(stack: Stack) -> bytes:
    """What robots know it by."""
    found: bytes = (
        stack.container("telemetry-service").exec_run("cat /run/secrets/LEROBOT_BACKEND_AUTHORITY").output
    )
    assert found.startswith(b"-----BEGIN CERTIFICATE-----")
    return found


def test_a_restart_of_the_whole_stack_keeps_everything(stack, recorded):
    """`make down` and `make up`: the same rows and files, and the passwords still fit."""
    before = stack.query(CONTENTS), stack.hashes_of_files()
    stack.compose("down")
    assert f"LeRobot backend on {stack.url}\n" in stack.script("up.sh")
    assert (stack.query(CONTENTS), stack.hashes_of_files()) == before


@pytest.mark.long("a second stack, and fifty robots at both")
async def test_a_backup_made_under_load_restores_to_the_same_data(stack, other_stack, recorded, tmp_path):
    """Rows and files of a moment, in an empty stack: counted and hashed, and its robots can go on there."""
    async with streaming(stack, "backed_up"):
        uploads = asyncio.create_task(keep_uploading(stack.url))
        await in_thread(stack.script, "backup.sh", str(tmp_path / "under-load"))
        assert uploads.cancel()
    await in_thread(stack.script, "backup.sh", str(tmp_path / "quiet"))
    await in_thread(other_stack.script, "restore.sh", str(tmp_path / "quiet"))
    assert other_stack.query(CONTENTS) == stack.query(CONTENTS)
    assert other_stack.hashes_of_files() == stack.hashes_of_files()
    async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
        answer = await client.get(f"{other_stack.url}/sessions/{recorded['session_id']}/ledger")
    assert answer.json() == recorded | {"exported": answer.json()["exported"]}
    assert authority_of(other_stack) == authority_of(stack)
    async with streaming(other_stack, "restored"):
        await asyncio.sleep(0)


def test_a_restore_refuses_a_stack_that_holds_data(stack, recorded, tmp_path):
    """Nothing is overwritten; the stack goes on as it was."""
    stack.script("backup.sh", str(tmp_path / "backup"))
    before = stack.query(CONTENTS)
    refused = subprocess.run(
        [REPOSITORY / "deploy/stack/restore.sh", tmp_path / "backup"],
        env=stack.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert "holds data already" in refused.stderr
    stack.wait_until_ready()
    assert stack.query(CONTENTS) == before


def test_a_backup_that_lacks_a_file_is_no_backup(stack, tmp_path):
    """A damaged object is found when the backup is made, not when it is needed."""
    folder = Path("/files/.objects")
    ingest = stack.container("video-ingest-service")
    victim = ingest.exec_run(["find", str(folder), "-type", "f", "-print", "-quit"]).output.decode().strip()
    move = "mv {0} {0}.aside".format
    assert ingest.exec_run(["sh", "-c", move(victim)]).exit_code == 0
    try:
        with pytest.raises(AssertionError, match="objects missing or damaged: 1"):
            stack.script("backup.sh", str(tmp_path / "damaged"))
    finally:
        ingest.exec_run(["sh", "-c", f"mv {victim}.aside {victim}"])
