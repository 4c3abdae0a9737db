"""`make demo`: record a virtual robot, cut the connection meanwhile, export the session,
check the dataset."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from teleop_schema.commands.command_line import Parser
from teleop_schema.words import counted

from teleop_backend.demo.relay import Relay, relay_to
from teleop_backend.demo.teleoperation import connect, teleoperate

ROBOT_ID = "robot_A"
# Long enough for a person to see waiting frames.
CUT_S = 2.0
# How often it says that the backend is still starting: a first one takes seconds, on a slow machine minutes.
TELL_EVERY_S = 15.0
# The rest takes about a second once the line is back; this is only when to give up.
DRAIN_TIMEOUT_S = 60.0
# Exit status after Ctrl-C, as for the other commands.
INTERRUPTED = 130


def main() -> int:
    """The exit code: 0 if all accounts agree."""
    parser = Parser(prog="python -m teleop_backend.demo", description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="how many seconds the robot moves; default: 20"
    )
    parser.add_argument(
        "--port",
        type=int,
        default=os.environ.get("LEROBOT_BACKEND_PORT") or "8000",
        help="port of the backend; default: LEROBOT_BACKEND_PORT, or 8000",
    )
    parser.add_argument(
        "--data-dir",
        type=Path,
        help="folder for all that the demo stores, files too; default: LEROBOT_BACKEND_DATA_DIR and "
        "LEROBOT_BACKEND_BACKUP_DIR, or ./data and ./lerobot_backup",
    )
    arguments = parser.parse_args()
    arguments.data_dir, arguments.backup_dir = folders(arguments.data_dir, os.environ)
    # SIGTERM stops it in order, like Ctrl-C; otherwise the backend would continue without it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return show(arguments)
    except KeyboardInterrupt:
        print("\nstopped; what was recorded so far is kept")
        return INTERRUPTED


def folders(chosen: Path | None, environment: Mapping[str, str]) -> tuple[Path, Path]:
    """The database's folder and that of the files, which belong to one database.

    chosen  holds both: a new database would refuse the files of another demo
    """
    if chosen is not None:
        return chosen, chosen / "lerobot_backup"
    data_dir = environment.get("LEROBOT_BACKEND_DATA_DIR") or "data"
    return Path(data_dir), Path(environment.get("LEROBOT_BACKEND_BACKUP_DIR") or "lerobot_backup")


def show(arguments: argparse.Namespace) -> int:
    """The demo with its backend, which keeps running afterwards on a terminal; returns the exit code."""
    with (
        backend(arguments.port, arguments.data_dir, arguments.backup_dir) as process,
        relay_to(arguments.port) as relay,
    ):
        accounts = run(arguments, relay)
        if sys.stdout.isatty() and accounts:
            print(f"\nThe backend serves on http://127.0.0.1:{arguments.port} until Ctrl-C.")
            wait_for_ctrl_c(process)
    return 0 if accounts else 1


def run(arguments: argparse.Namespace, relay: Relay) -> bool:
    """The demo itself; returns whether all accounts agree."""
    api = f"http://127.0.0.1:{arguments.port}"
    print(f"teleoperating a virtual SO-101 at 60 Hz for {arguments.seconds:g} s as {ROBOT_ID}")
    cut_at = max(1, int(arguments.seconds / 2))

    def each_second(second: int, logged: int, acknowledged: int) -> None:
        remark = ""
        if second == cut_at:
            relay.cut()
            remark = f"   connection cut for {CUT_S:g} s"
        if second == cut_at + int(CUT_S):
            relay.mend()
            remark = "   connection back"
        print(f"  {second:2d} s   logged {logged:5d}   durable {acknowledged:5d}{remark}", flush=True)

    client = connect(f"ws://127.0.0.1:{relay.port}", ROBOT_ID, arguments.data_dir / "spool")
    try:
        values = teleoperate(client, arguments.seconds, each_second)
    finally:
        # After Ctrl-C too, logged samples are sent and the shipper ends; the connection exists only now.
        relay.mend()
        client.drain(timeout_s=DRAIN_TIMEOUT_S)
    session = client.session_id
    ledger = get(f"{api}/sessions/{session}/ledger")
    print(
        f"session {session}: {counted(ledger['committed'], 'frame')}, measured {ledger['measured_hz']:.2f} Hz"
    )
    dataset = export(api, session)
    exported = check(dataset, values)
    ledger = get(f"{api}/sessions/{session}/ledger")
    print(f"the {exported} exported frames equal the logged ones, bit for bit")
    if left_out := len(values) - exported:
        print(
            "this machine did not keep the loop at 60 Hz, so the dataset has no row for "
            f"{counted(left_out, 'frame')} (its report says why); all frames are stored"
        )
    print(
        f"logged={len(values)} committed={ledger['committed']} exported={exported} "
        f"gaps={ledger['missing'] + ledger['unaccounted']} duplicates={ledger['duplicates']}"
    )
    print(f"look at it: {api}/#/sessions/{session}")
    return bool(
        len(values) == ledger["committed"]
        and ledger["exported"] == exported > 0
        and ledger["complete"]
        and not ledger["duplicates"]
    )


def export(api: str, session: int | None) -> Path:
    """Export the session as a dataset with the command that a user would type; returns its folder."""
    root = Path("outputs") / f"demo-session-{session}-{time.strftime('%Y%m%d-%H%M%S')}"
    command = ["export-to-dataset", f"--session_id={session}", "--repo_id=demo/virtual-so101"]
    print("$", " ".join(command), flush=True)
    executable = Path(sys.executable).parent / command[0]
    subprocess.run([executable, *command[1:], f"--backend_url={api}", f"--root={root}"], check=True)
    return root


def check(dataset: Path, values: NDArray[np.float32]) -> int:
    """Number of frames in the dataset; raises AssertionError unless each was logged, in this order.

    They are fewer than were logged if the loop did not keep its rate: a dataset has one row for each period.
    """
    table = pq.read_table(dataset / "data")
    stored = np.hstack(
        [np.stack(table[column].to_numpy()) for column in ("observation.state", "action")], dtype=np.float32
    )
    logged = iter(values)
    for number, row in enumerate(stored):
        if not any(np.array_equal(row, frame) for frame in logged):
            raise AssertionError(f"row {number} of {dataset} is not among the logged frames that are left")
    return len(stored)


@contextmanager
def backend(port: int, data_dir: Path, backup_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The backend as one process, ready."""
    if ready(port):
        sys.exit(
            f"a backend is already running on port {port}; stop it, or run the demo in a folder of its own:\n"
            f"{sys.executable} -m teleop_backend.demo --port {port + 10} --data-dir outputs/demo/data"
        )
    data_dir.mkdir(parents=True, exist_ok=True)
    log = data_dir / "backend.log"
    environment = {
        **os.environ,
        "LEROBOT_BACKEND_PORT": str(port),
        "LEROBOT_BACKEND_DATA_DIR": str(data_dir),
        "LEROBOT_BACKEND_BACKUP_DIR": str(backup_dir),
    }
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "teleop_backend"],
            env=environment,
            stdout=errors,
            stderr=errors,
            # Ctrl-C goes to the demo, which then stops the backend in order.
            start_new_session=True,
        )
        try:
            wait_until_ready(port, process, log)
            print(f"backend ready on http://127.0.0.1:{port}, PostgreSQL in {data_dir}", flush=True)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def wait_until_ready(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return once the backend serves, however long that takes; SystemExit with the reason if it has ended."""
    tell_at = time.monotonic() + TELL_EVERY_S
    while not ready(port):
        if process.poll() is not None:
            lines = log.read_text(errors="replace").splitlines()[-3:]
            sys.exit(f"the backend did not start; the end of its log, {log}:\n" + "\n".join(lines))
        if time.monotonic() > tell_at:
            print(f"the backend is still starting; its log is {log}", flush=True)
            tell_at = time.monotonic() + TELL_EVERY_S
        time.sleep(0.1)


def ready(port: int) -> bool:
    """Whether a backend serves on that port of 127.0.0.1."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz") as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def get(url: str) -> dict[str, Any]:
    """What a JSON address answers; raises OSError."""
    with urllib.request.urlopen(url) as answer:
        content: dict[str, Any] = json.load(answer)
        return content


def wait_for_ctrl_c(process: subprocess.Popen[bytes]) -> None:
    """Return at Ctrl-C, or when the process ends."""
    try:
        process.wait()
    except KeyboardInterrupt:
        print()
