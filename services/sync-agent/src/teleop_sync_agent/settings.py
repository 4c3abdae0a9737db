"""The agent's settings, and how people write them."""

import os
import re
from dataclasses import dataclass, field
from datetime import time
from pathlib import Path

from lerobot_robot_backend.spool.stream import SpoolError, default_spool_dir
from teleop_client.address import check_backend_url, same_backend
from teleop_client.credentials import Tokens
from teleop_client.lerobot_home import lerobot_home
from teleop_schema.errors import BadInput
from teleop_schema.identifiers import check_robot_id

from teleop_sync_agent.errors import AgentError, not_read
from teleop_sync_agent.joining import Line, read_line
from teleop_sync_agent.keeping.state import default_state_dir

# Several, so that the connection is used while one file waits for its answer.
DEFAULT_PARALLEL = 4
# More would only share the same uplink, each with a file open and a piece of it in memory.
MAX_PARALLEL = 32
MAX_PORT = 65_535
FLEET_VARIABLE = "LEROBOT_BACKEND_JOIN"
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12,
          "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}  # fmt: skip
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?(?:/s)?", re.IGNORECASE | re.ASCII)
_BETWEEN = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d)", re.ASCII)


@dataclass(frozen=True)
class Between:
    """A part of each day, by the machine's clock; it may cross midnight."""

    begin: time
    end: time

    def holds(self, now: time) -> bool:
        if self.begin <= self.end:
            return self.begin <= now < self.end
        return now >= self.begin or now < self.end


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one agent.

    server         http://host:port or https://…
    bandwidth      bytes/s for all uploads together; None: no limit
    parallel       how many files are uploaded at a time
    reclaim_below  bytes to keep free on the disks of the roots; None: nothing is ever deleted
    between        when uploads may run; None: always
    fleet          the line of the robot's fleet, by which it joins if it has not yet; None: it has none
    """

    server: str
    robot_id: str
    roots: tuple[Path, ...]
    spool_dir: Path
    state_dir: Path
    tokens: Tokens = field(default_factory=Tokens)
    bandwidth: float | None = None
    parallel: int = DEFAULT_PARALLEL
    reclaim_below: int | None = None
    between: Between | None = None
    metrics_port: int | None = None
    fleet: Line | None = None


def make_settings(
    *,
    server: str | None,
    robot_id: str | None,
    watch: list[Path] | None,
    spool: Path | None = None,
    state_dir: Path | None = None,
    bandwidth: str | None = None,
    parallel: int = DEFAULT_PARALLEL,
    reclaim_when_below: str | None = None,
    between: str | None = None,
    metrics_port: int | None = None,
) -> Settings:
    """Settings from the command line; the rest from the environment. Raises AgentError."""
    fleet = _fleet_of_environment()
    server = server or os.environ.get("LEROBOT_BACKEND_URL") or (fleet.backend_url if fleet else None)
    robot_id = robot_id or os.environ.get("LEROBOT_BACKEND_ROBOT_ID")
    if not server:
        raise AgentError("where is the backend? Set --backend_url http://host:8000 or LEROBOT_BACKEND_URL")
    if not robot_id:
        raise AgentError("which robot is this? Set --robot_id robot_A or LEROBOT_BACKEND_ROBOT_ID")
    if not 1 <= parallel <= MAX_PARALLEL:
        raise AgentError(f"--parallel {parallel}: 1 to {MAX_PARALLEL}")
    if metrics_port is not None and not 1 <= metrics_port <= MAX_PORT:
        raise AgentError(f"--metrics-port {metrics_port}: 1 to {MAX_PORT}")
    try:
        if fleet is not None and not same_backend(fleet.backend_url, server):
            raise AgentError(f"the line in {FLEET_VARIABLE} is for {fleet.backend_url}, not for {server}")
        return Settings(
            server="http" + check_backend_url(server).removeprefix("ws"),
            robot_id=check_robot_id(robot_id),
            roots=check_roots(watch or [lerobot_home()]),
            spool_dir=check_readable((spool or default_spool_dir()).expanduser().absolute(), "--spool"),
            state_dir=(state_dir or default_state_dir()).expanduser().absolute(),
            tokens=Tokens.of_environment(server),
            bandwidth=None if bandwidth is None else parse_size(bandwidth, "--bandwidth"),
            parallel=parallel,
            reclaim_below=(
                None if reclaim_when_below is None else parse_size(reclaim_when_below, "--reclaim-when-below")
            ),
            between=None if between is None else parse_between(between),
            metrics_port=metrics_port,
            fleet=fleet,
        )
    except (ValueError, BadInput, SpoolError) as error:
        raise AgentError(str(error)) from error


def _fleet_of_environment() -> Line | None:
    text = os.environ.get(FLEET_VARIABLE, "").strip()
    if not text:
        return None
    try:
        line = read_line(text)
    except ValueError as error:
        raise AgentError(f"{FLEET_VARIABLE}: {error}") from error
    if line.pool is None:
        raise AgentError(
            f"the line in {FLEET_VARIABLE} is for one robot, and works once: use it with sync-agent join; "
            "lerobot-backend robots pool add prints lines for settings"
        )
    return line


def parse_size(text: str, option: str) -> int:
    """Bytes (or bytes/s) for "10GB", "512MiB", "2.5MB/s"; raises AgentError naming the option."""
    found = _SIZE.fullmatch(text.strip())
    size = int(float(found[1]) * _UNITS[(found[2] or "").lower()]) if found else 0
    if size <= 0:
        raise AgentError(f"{option} {text!r}: expected a size like 10GB, 512MiB or 2.5MB/s")
    return size


def parse_between(text: str) -> Between:
    """The hours of "22:00-06:00"; raises AgentError."""
    found = _BETWEEN.fullmatch(text.strip())
    try:
        if found is None:
            raise ValueError
        hours = Between(time(int(found[1]), int(found[2])), time(int(found[3]), int(found[4])))
    except ValueError:
        raise AgentError(f"--between {text!r}: expected hours of the day like 22:00-06:00") from None
    if hours.begin == hours.end:
        raise AgentError(f"--between {text!r} leaves no time to upload")
    return hours


def check_roots(roots: list[Path]) -> tuple[Path, ...]:
    """The folders, absolute and without duplicates; raises AgentError if one is a dataset
    or lies in another."""
    found = tuple(dict.fromkeys(root.expanduser().resolve() for root in roots))
    for root in found:
        check_readable(root, "--watch")
        if (root / "meta" / "info.json").is_file():
            raise AgentError(f"--watch {root} is itself a dataset: watch {root.parent}, the folder above it")
        if within := next((other for other in found if other != root and root.is_relative_to(other)), None):
            raise AgentError(f"--watch {root} is inside {within}, which is already watched")
    return found


def check_readable(folder: Path, option: str) -> Path:
    """The folder, which may be missing; raises AgentError if it is not a folder, or can't be read."""
    try:
        there = folder.exists()
    except OSError as error:
        raise not_read(f"{option} {folder}", error) from error
    if there and not folder.is_dir():
        raise AgentError(f"{option} {folder} is not a folder")
    if there and not os.access(folder, os.R_OK | os.X_OK):
        raise AgentError(f"{option} {folder} can't be read: run the agent as the user who records")
    return folder
