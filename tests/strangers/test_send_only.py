"""Clients that only send, and never read a word back, lose nothing, whoever wrote their library."""

import asyncio
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from teleop_runtime.serving.serve import DEAD_AFTER_S
from teleop_testing.waiting import PATIENCE_S, until

# Longer than the server waits for the answer to a ping.
SENDS_FOR_S = DEAD_AFTER_S + 5
FRAMES = round(SENDS_FOR_S * 60)
PLAIN = f"plain WebSocket, sends for {SENDS_FOR_S:.0f} s and never reads"


@dataclass(frozen=True)
class Stranger:
    """A client of another's making.

    name    what the table of clients calls it
    script  in `clients/`
    """

    name: str
    script: str

    @property
    def robot_id(self) -> str:
        return Path(self.script).name

    def command(self, folder: Path, address: str, frames: int, seconds: float, ending: str) -> list[str]:
        runtime = NODE if self.script.endswith(".mjs") else [sys.executable]
        address = f"ws://{address}/ws/log/{self.robot_id}"
        return [*runtime, str(folder / self.script), address, str(frames), str(seconds), ending]


# Before release 22, Node has its WebSocket only on demand.
NODE = ["node", "--experimental-websocket", "--no-warnings"]
STRANGERS = [
    Stranger("Python websockets, blocking", "websockets_blocking.py"),
    Stranger("Python websockets, asyncio", "websockets_asyncio.py"),
    Stranger("Python websocket-client", "websocket_client.py"),
    Stranger("Python aiohttp", "aiohttp_client.py"),
    Stranger("Python httpx-ws (wsproto)", "httpx_ws_client.py"),
    Stranger("Python picows", "picows_client.py"),
    Stranger("Node's own WebSocket", "node_builtin.mjs"),
    Stranger("Node ws", "ws.mjs"),
    Stranger("Node ws, reading paused", "ws_paused.mjs"),
]


@pytest.fixture(scope="session")
def strangers() -> list[Stranger]:
    """All but those that this machine's Node is too old for."""
    told = subprocess.run(
        [*NODE, "-p", "typeof WebSocket"], capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    has_own = told.stdout.strip() == "function"
    return [each for each in STRANGERS if has_own or each.script != "node_builtin.mjs"]


async def run(command: list[str]) -> None:
    """A client, to its end."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(PATIENCE_S):
        output, _ = await process.communicate()
    # Its output does not count: httpx-ws prints a traceback if it closes in the moment of a ping of its own.
    assert process.returncode == 0, output.decode()


async def accounts(address: str, database) -> dict[str, dict]:
    """robot_id -> the ledger of its only session, once all have ended."""
    await until(lambda: database.value("SELECT bool_and(status <> 'recording') FROM teleop_session"))
    rows = await database.fetch("SELECT id, robot_id, status FROM teleop_session")
    async with httpx.AsyncClient(base_url=f"http://{address}", timeout=PATIENCE_S) as http:
        ledgers = {row["robot_id"]: (await http.get(f"/sessions/{row['id']}/ledger")).json() for row in rows}
    assert len(ledgers) == len(rows)
    return ledgers


async def values_of(database, session_id: int) -> list[tuple[int, float, float]]:
    rows = await database.fetch(
        "SELECT frame_index, state[1], action[1] FROM teleop_frame WHERE session_id = $1 ORDER BY 1",
        session_id,
    )
    return [tuple(row.values()) for row in rows]


def sent(frames: int) -> list[tuple[int, float, float]]:
    """What `pacing` sends, as it must be stored."""
    return [(number, number, number + 0.5) for number in range(frames)]


async def test_nothing_is_lost(service, clients, database, strangers, tried):
    """All send at 60 Hz, longer than a ping may stay unanswered, and close: each frame is stored with its
    values, the one that could not be is counted, and the session is complete."""
    async with asyncio.TaskGroup() as tasks:
        for stranger in strangers:
            tasks.create_task(run(stranger.command(clients, service.address, FRAMES, SENDS_FOR_S, "close")))
    ledgers = await accounts(service.address, database)
    for stranger in strangers:
        ledger = ledgers[stranger.robot_id]
        assert await values_of(database, ledger["session_id"]) == sent(FRAMES), stranger
        assert (ledger["status"], ledger["logged"], ledger["committed"]) == ("complete", FRAMES, FRAMES), (
            stranger
        )
        assert (ledger["refused"], ledger["duplicates"], ledger["unaccounted"]) == (1, 0, 0), stranger
        assert [refusal["field"] for refusal in ledger["refusals"]] == ["observation.a"], stranger
        stored = f"{ledger['committed']} frames; {ledger['refused']} refused"
        tried(stranger.name, PLAIN, f"{FRAMES} frames; 1 that can't be stored", stored)


async def test_a_line_that_ends_without_a_close_is_interrupted(service, clients, database, strangers):
    """A client that was killed has not said that it is done: what it had sent is stored, and interrupted."""
    processes = [
        await asyncio.create_subprocess_exec(*stranger.command(clients, service.address, 100, 0.5, "stay"))
        for stranger in strangers
    ]

    async def arrived() -> bool:
        return await database.value("SELECT count(*) FROM teleop_frame") == 100 * len(strangers)

    try:
        await until(arrived)
        assert await database.value("SELECT count(*) FROM teleop_session WHERE status = 'recording'") == len(
            strangers
        )
    finally:
        for process in processes:
            process.kill()
            await process.wait()
    ledgers = await accounts(service.address, database)
    found = {name: (each["status"], each["logged"], each["committed"]) for name, each in ledgers.items()}
    assert found == {stranger.robot_id: ("interrupted", None, 100) for stranger in strangers}
