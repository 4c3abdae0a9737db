"""examples/javascript, which was written from docs/telemetry-protocol.md alone: cut, killed, and compared."""

import asyncio
import json
import struct
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

import httpx
import pytest
from teleop_backend.demo.relay import relay_to
from teleop_testing.waiting import PATIENCE_S, until

EXAMPLE = Path(__file__).parents[2] / "examples/javascript"
FRAMES = 600
CUTS, KILLS = 12, 3
CUT_FOR_S = 0.1


@pytest.fixture(scope="module")
def example(npm) -> Path:
    """The example, with what it needs installed beside it."""
    return npm(EXAMPLE)


def logged(spool: Path) -> list[tuple]:
    """What the recorder has written to its folder: index, µs, and the vectors as float32."""
    frames = [json.loads(line) for line in (spool / "frames.jsonl").read_text().splitlines()]
    return [
        (index, int(frame["timeUs"]), *rounded(frame["state"]), *rounded(frame["action"]))
        for index, frame in enumerate(frames)
    ]


def rounded(values: list[float]) -> tuple[float, ...]:
    return struct.unpack(f"{len(values)}f", struct.pack(f"{len(values)}f", *values))


async def stored(database) -> list[tuple]:
    """The same of the database."""
    rows = await database.fetch(
        """SELECT frame_index, (extract(epoch FROM "timestamp") * 1000000)::bigint AS us, state, action
             FROM teleop_frame ORDER BY session_id, frame_index"""
    )
    return [(row["frame_index"], row["us"], *row["state"], *row["action"]) for row in rows]


async def start(example: Path, address: str, spool: Path) -> asyncio.subprocess.Process:
    arguments = (f"ws://{address}/ws/log/robot_js", str(spool), str(FRAMES))
    return await asyncio.create_subprocess_exec(
        "node", str(example / "record.js"), *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def test_cut_and_killed(example, service, database, tmp_path, tried):
    """While it records, its line is cut and the process killed, again and again: what it has logged is stored
    once, value by value, and the session and its episode are complete."""
    spool = tmp_path / "stream"

    async def frames_stored(count: int) -> None:
        await until(
            lambda: database.value(
                "SELECT coalesce(max(next_frame_index), 0) >= $1 FROM teleop_session", count
            )
        )

    with relay_to(service.port) as line:
        address = f"127.0.0.1:{line.port}"
        recorder = await start(example, address, spool)
        # Each fault comes after progress, so that none falls together with another.
        faults = CUTS + KILLS
        for number in range(1, faults + 1):
            await frames_stored(number * FRAMES // (faults + 2))
            if number % (faults // KILLS) == 0:
                # On a busy machine, it may be done already; then it finds that it is.
                with suppress(ProcessLookupError):
                    recorder.kill()
                await recorder.wait()
                recorder = await start(example, address, spool)
            else:
                line.cut()
                await asyncio.sleep(CUT_FOR_S)
                line.mend()
        async with asyncio.timeout(PATIENCE_S):
            output, complaints = await recorder.communicate()
    assert (recorder.returncode, output.decode()) == (0, f"session 1 is complete: {FRAMES} frames\n"), (
        complaints
    )
    assert len(logged(spool)) == FRAMES
    assert await stored(database) == logged(spool)
    async with httpx.AsyncClient(base_url=f"http://{service.address}", timeout=PATIENCE_S) as http:
        ledger = (await http.get("/sessions/1/ledger")).json()
    assert (ledger["status"], ledger["delivery"], ledger["complete"]) == ("complete", "acknowledged", True)
    assert (ledger["logged"], ledger["committed"]) == (FRAMES, FRAMES)
    assert (ledger["missing"], ledger["duplicates"], ledger["unaccounted"], ledger["gaps"]) == (0, 0, 0, [])
    [episode] = await database.fetch("SELECT start_frame, end_frame, task FROM episode")
    assert (episode["start_frame"], episode["end_frame"], episode["task"]) == (0, FRAMES, "wave")
    # Some faults may have hit a connection that another had not let begin.
    assert await database.value("SELECT epoch FROM teleop_session") > (CUTS + KILLS) // 2
    tried(
        "JavaScript, examples/javascript",
        f"acknowledged WebSocket, cut {CUTS} times, killed {KILLS} times",
        f"{FRAMES} frames",
        f"{ledger['committed']} frames; {ledger['missing']} missing, {ledger['duplicates']} twice",
    )


async def test_hears_why_it_is_refused(example, service, tmp_path):
    """A refusal over HTTP is shown with the server's own words, and nothing is given up."""
    recorder = await start(example, f"{service.address}/nowhere", tmp_path / "stream")
    assert recorder.stderr is not None
    async with asyncio.timeout(PATIENCE_S):
        complaint = (await recorder.stderr.readline()).decode()
    recorder.kill()
    await recorder.wait()
    assert complaint.startswith("404: nothing exists at /nowhere/ws/log/robot_js for WebSocket; "), complaint
    assert "addresses for WebSocket are /ws/log/{robot_id}" in complaint


GOLDEN = files("teleop_schema") / "golden"
COMPARE = """
import { readFileSync } from "node:fs";
import { encodeBatch, crc32c } from "./batch.js";
console.log(crc32c(Buffer.from("123456789")).toString(16));
const { fields } = JSON.parse(readFileSync(process.argv[2]));
const frames = fields.timestamps.map((time, row) => (
  { timeUs: BigInt(time), state: fields.state[row], action: fields.action[row] }
));
console.log(Buffer.from(encodeBatch(fields.first, frames, fields.events)).toString("hex"));
"""


async def test_its_batches_are_the_golden_ones(example):
    """Byte for byte, where the golden message has only what the example sends."""
    (example / "compare.mjs").write_text(COMPARE)
    golden = GOLDEN / "batch_events.json"
    node = await asyncio.create_subprocess_exec(
        "node", str(example / "compare.mjs"), str(golden), stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(PATIENCE_S):
        output, _ = await node.communicate()
    assert output.decode().split() == ["e3069283", json.loads(golden.read_text())["hex"]]
