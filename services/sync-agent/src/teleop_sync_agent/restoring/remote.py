"""The commands that talk to the server directly: verify and restore."""

import argparse
import os
import sys
from pathlib import Path

from teleop_client.backend_http import BackendHttp, HttpFailure, Refused
from teleop_client.credentials import Tokens
from teleop_client.persevering import GaveUp, Patience, persevere
from teleop_schema.errors import BadInput
from teleop_schema.identifiers import check_dataset_name
from teleop_schema.words import counted, shown, size_text

from teleop_sync_agent.errors import AgentError, ServerAway, not_written
from teleop_sync_agent.keeping.state import AgentState, DatasetRow
from teleop_sync_agent.restoring.restoring import restore
from teleop_sync_agent.restoring.verifying import compare
from teleop_sync_agent.status import describe_overtaken

# For `restore`: longest time in which nothing arrives.
PATIENCE_S = 60.0


async def verify(chosen: argparse.Namespace, robots: list[tuple[str, AgentState]]) -> bool:
    """Compare a dataset with its receipts and the server; prints differences, returns whether there are none.

    Raises AgentError, ServerAway.
    """
    robot_id, state, row = _find(chosen.dataset, robots)
    try:
        async with _backend(chosen.server or _last_server(state), robot_id) as backend:
            found = await compare(row, robot_id, backend)
    except HttpFailure as error:
        if error.code is None:
            raise ServerAway.of(error) from error
        print(f"{row.name}: {error}", file=sys.stderr)
        return False
    for path, problem in found.problems:
        print(shown(f"{row.name}/{path}: {problem}"))
    for path, why in found.left_out:
        print(shown(f"{row.name}/{path}: left out, exists only here: {why}"))
    if row.state == "reclaimed" and not found.files:
        copy = "differs" if found.problems else "is whole"
        read = counted(found.read_there, "object")
        print(f"{row.name}: deleted here to free space; the server's copy {copy}, {read} read there")
        return not (found.problems or found.overtaken_by)
    if found.only_there:
        only = counted(len(found.only_there), "file")
        print(shown(f"{row.name}: {only} only on the server, which keeps them: {found.only_there[0]} …"))
    outcome = "the same here and on the server"
    if found.overtaken_by is not None:
        print(f"{row.name}: {describe_overtaken(row.version, found.overtaken_by)}")
        outcome = f"{outcome}, as version {row.version}"
    if found.left_out:
        outcome = f"{outcome}, except for {len(found.left_out)} left out"
    if found.problems:
        outcome = "differs"
    files, objects = counted(found.files, "file"), counted(found.read_there, "object")
    print(f"{row.name}: {files} hashed, {objects} read there: {outcome}")
    return not (found.problems or found.left_out or found.overtaken_by)


async def fetch(chosen: argparse.Namespace) -> bool:
    """Restore a dataset, and print where it is; returns whether it worked. Raises AgentError, ServerAway."""
    robot_id = chosen.robot_id or os.environ.get("LEROBOT_BACKEND_ROBOT_ID")
    if not robot_id:
        raise AgentError("which robot's dataset? Set --robot_id or LEROBOT_BACKEND_ROBOT_ID")
    try:
        check_dataset_name(chosen.dataset)
    except BadInput as error:
        raise AgentError(error.detail) from error
    into: Path = chosen.into.expanduser().absolute()
    fetched = 0
    patience = Patience(PATIENCE_S, lambda why: print(f"{chosen.dataset}: {why}", file=sys.stderr))

    def count(size_bytes: int) -> None:
        nonlocal fetched
        fetched += size_bytes
        patience.got_on()

    async def attempt() -> Path:
        return await restore(
            backend,
            robot_id,
            chosen.dataset,
            into,
            version=chosen.version,
            advance=count,
            report=patience.report,
        )

    async with _backend(chosen.server, robot_id) as backend:
        try:
            folder = await persevere(attempt, report=patience.report)
        except GaveUp as gave_up:
            if gave_up.error.code is None:
                raise ServerAway.of(gave_up.error, after_s=PATIENCE_S) from gave_up
            print(f"{chosen.dataset}: {gave_up}", file=sys.stderr)
            return False
        except Refused as error:
            print(f"{chosen.dataset}: {error}", file=sys.stderr)
            return False
        except OSError as error:
            raise not_written(f"--into {into}", error) from error
    print(f"{folder}: {size_text(fetched)} downloaded, all hashes match")
    return True


def _backend(server: str | None, robot_id: str) -> BackendHttp:
    server = server or os.environ.get("LEROBOT_BACKEND_URL")
    if not server:
        raise AgentError("where is the backend? Set --backend_url http://host:8000 or LEROBOT_BACKEND_URL")
    try:
        return BackendHttp(server, tokens=Tokens.of_environment(server), robot_id=robot_id)
    except ValueError as error:
        raise AgentError(str(error)) from error


def _last_server(state: AgentState) -> str | None:
    told = state.note("server")
    return told.decode() if told else None


def _find(dataset: str, robots: list[tuple[str, AgentState]]) -> tuple[str, AgentState, DatasetRow]:
    """The dataset with that name or folder, among those of the agents that ran here; raises AgentError."""
    folder = str(Path(dataset).expanduser().resolve())
    found = [
        (robot, state, row)
        for robot, state in robots
        for row in state.datasets()
        if row.folder == folder or row.name == dataset
    ]
    if not found:
        raise AgentError(f"no agent has seen a dataset {dataset!r} here; `sync-agent status` lists them")
    if len(found) > 1:
        raise AgentError(f"more than one dataset is called {dataset!r}: give the folder, or --robot_id")
    return found[0]
