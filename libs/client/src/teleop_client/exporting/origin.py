"""`dataset-origin ~/datasets/pick`: from a dataset on this machine back to its export and its sessions."""

import argparse
import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from teleop_schema.commands.command_line import Parser
from teleop_schema.commands.variables import mistyped
from teleop_schema.decoding import DECODE_ERRORS
from teleop_schema.words import counted, shown

from teleop_client.address import backend_url_option
from teleop_client.credentials import URL_VARIABLE, Tokens
from teleop_client.exporting.cli import DEFAULT_URL, end
from teleop_client.exporting.exports import ExportError, Exports
from teleop_client.lerobot_home import lerobot_home

LINEAGE = Path("meta", "backend.json")
# As many as LeRobot's own JSON files may have; a dataset may come from anywhere.
MAX_BYTES = 64 * 1024**2
# Named one by one; more are no help to a person.
MOST_NAMED = 20


class Episode(Struct):
    """An episode of the dataset, and which one it was when it was recorded."""

    session_id: int
    recorded_episode: int | None = None


class Lineage(Struct):
    """What a dataset says of where it comes from; `fingerprint` is None if it is of an older backend."""

    episodes: list[Episode]
    fingerprint: str | None = None


def main() -> None:
    """Console script.

    Exit status 0: it is an export, whether the backend still has it or not; 1: it is not, or the backend
    can't be asked; 2: wrong usage; 75: the backend can't be asked now.
    """
    arguments = parse(sys.argv[1:])
    for line in mistyped(os.environ):
        print(f"warning: {line}", file=sys.stderr)
    try:
        lineage = read_lineage(folder_of(arguments.dataset))
        exports = asyncio.run(find(arguments.backend_url, lineage))
        print("\n".join(map(shown, told(lineage, exports, arguments.backend_url))))
    except ExportError as error:
        end(error)


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line; exits with status 2 and the reason if it is wrong."""
    parser = Parser(
        prog="dataset-origin", description="Say which export a dataset is, and of which recorded sessions."
    )
    parser.add_argument("dataset", help="its folder, or its name (user/name) where LeRobot keeps datasets")
    parser.add_argument(
        "--backend_url",
        type=backend_url_option,
        default=os.environ.get(URL_VARIABLE, DEFAULT_URL),
        help="%(default)s",
    )
    return parser.parse_args(words)


def folder_of(dataset: str) -> Path:
    """The folder that is meant."""
    folder = Path(dataset).expanduser()
    return folder if folder.is_dir() else lerobot_home() / dataset


def read_lineage(folder: Path) -> Lineage:
    """What the dataset says of itself; raises ExportError."""
    try:
        with (folder / LINEAGE).open("rb") as file:
            return msgspec.json.decode(file.read(MAX_BYTES), type=Lineage)
    except FileNotFoundError:
        if not (folder / "meta" / "info.json").is_file():
            raise ExportError(f"{folder} is not the folder of a dataset") from None
        raise ExportError(
            f"{folder} has no {LINEAGE}: it is not an export, or a tool has made another dataset of one",
            "a merged one still has backend/session_id and backend/episode_index in meta/episodes",
        ) from None
    except OSError as error:
        raise ExportError(f"{folder / LINEAGE} can't be read: {error.strerror}") from error
    except DECODE_ERRORS as error:
        raise ExportError(f"{folder / LINEAGE} is damaged: {error}") from error


async def find(backend_url: str, lineage: Lineage) -> list[dict[str, Any]]:
    """The exports of that backend that the dataset is; none if it has no such export any more."""
    if lineage.fingerprint is None:
        return []
    async with Exports.connected(backend_url, Tokens.of_environment(backend_url)) as backend:
        return await backend.find(lineage.fingerprint)


def told(lineage: Lineage, exports: Sequence[dict[str, Any]], backend_url: str) -> Iterator[str]:
    """What is known of it, line by line."""
    if lineage.fingerprint is None:
        yield "made by an older backend, which gave datasets no fingerprint"
    else:
        yield f"fingerprint {lineage.fingerprint}"
        for export in exports:
            name = export["request"]["repo_id"]
            yield f"export {export['id']} of {backend_url}: {name}, {export['status']}"
        if not exports:
            yield f"{backend_url} has no such export; it was deleted, or is another backend's"
    sessions: dict[int, list[int]] = {}
    for episode in lineage.episodes:
        recorded = sessions.setdefault(episode.session_id, [])
        if episode.recorded_episode is not None and episode.recorded_episode not in recorded:
            recorded.append(episode.recorded_episode)
    for number, recorded in sessions.items():
        named = ", ".join(map(str, recorded[:MOST_NAMED])) + (", …" if len(recorded) > MOST_NAMED else "")
        yield f"session {number}: " + (
            f"{counted(len(recorded), 'episode')} ({named})" if recorded else "the whole session"
        )


if __name__ == "__main__":
    main()
