"""`import-dataset FOLDER`: uploads a LeRobot dataset, and makes a session of it."""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from teleop_schema.commands.command_line import Parser
from teleop_schema.commands.variables import mistyped
from teleop_schema.errors import BackendError, BadInput
from teleop_schema.files import DatasetVersion, FilePlan
from teleop_schema.identifiers import check_dataset_name, check_robot_id
from teleop_schema.words import counted, shown

from teleop_client.address import backend_url_option
from teleop_client.backend_http import HttpFailure, Interrupted, dataset_address
from teleop_client.credentials import Tokens
from teleop_client.ending import INTERRUPTED, REFUSED, TRY_LATER, end_with
from teleop_client.exporting.cli import DEFAULT_URL
from teleop_client.exporting.exports import PATIENCE_S, POLL_S, SILENCE_S, Progress
from teleop_client.exporting.progress import showing
from teleop_client.importing.folder import LocalFile, NotADataset, find_files, hash_file, manifest_of
from teleop_client.lerobot_home import lerobot_home
from teleop_client.persevering import GaveUp, Patience, persevere
from teleop_client.uploading import FileBytes, SourceChanged, Uploader

# Whose the datasets are that no robot here has recorded.
ROBOT = "imported"
# At a time; one alone would wait for each answer.
PARALLEL = 4
STAGES = {"frames": ("stored_frames", "frames"), "imported video": ("stored_videos", "videos")}


class ImportFailed(Exception):
    """The backend could not import the dataset; says why, and `hint` what to do."""

    def __init__(self, what: str, hint: str | None = None) -> None:
        super().__init__(what)
        self.hint = hint


def main() -> None:
    """Console script.

    Exit status 0: the session is there; 1: it failed, and the last line says why; 2: wrong usage; 75: it is
    not there yet, but the same command can succeed later.
    """
    arguments = parse(sys.argv[1:])
    for line in mistyped(os.environ):
        print(f"warning: {line}", file=sys.stderr)
    try:
        asyncio.run(import_dataset(arguments, sys.stderr))
    except (NotADataset, ImportFailed) as error:
        end_with(REFUSED, str(error), error.hint)
    except BadInput as error:
        end_with(REFUSED, error.detail, error.hint)
    except SourceChanged as error:
        end_with(TRY_LATER, f"the dataset changed while it was uploaded: {error}", "run the command again")
    except GaveUp as error:
        end_with(TRY_LATER, str(error), _hint_of(error.error))
    except HttpFailure as error:
        end_with(TRY_LATER if isinstance(error, Interrupted) else REFUSED, str(error), _hint_of(error))
    except OSError as error:
        end_with(REFUSED, f"{error.filename}: {error.strerror}" if error.filename else str(error), None)
    except KeyboardInterrupt:
        print("stopped; run the command again to go on from here", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def _hint_of(error: HttpFailure) -> str | None:
    return error.problem.hint if error.problem else None


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line; exits with status 2 and the reason if it is wrong."""
    parser = Parser(prog="import-dataset", description="Make a session of a LeRobot dataset (v3.0).")
    option = parser.add_argument
    option("folder", type=Path, help="folder of the dataset, the one with meta/info.json in it")
    option(
        "--backend_url",
        type=backend_url_option,
        default=os.environ.get("LEROBOT_BACKEND_URL", DEFAULT_URL),
        help="%(default)s",
    )
    option("--robot_id", default=ROBOT, help="robot that the dataset is filed under; default: %(default)s")
    option(
        "--name",
        help="name of the dataset on the backend; default: its path below $HF_LEROBOT_HOME, "
        "or else the folder's name",
    )
    option("--again", action="store_true", help="also if episodes of it are then in the library twice")
    arguments = parser.parse_args(words)
    arguments.name = arguments.name or default_name(arguments.folder)
    try:
        check_robot_id(arguments.robot_id)
        check_dataset_name(arguments.name)
    except BackendError as error:
        parser.error(error.detail)
    return arguments


def default_name(folder: Path) -> str:
    """As it is called on robots: user/name, if it is where LeRobot keeps datasets."""
    whole, home = folder.resolve(), lerobot_home().resolve()
    return whole.relative_to(home).as_posix() if whole.is_relative_to(home) else whole.name


async def import_dataset(arguments: argparse.Namespace, output: TextIO) -> None:
    """Upload and import it, then say what it has become; raises ImportFailed, NotADataset, HttpFailure,
    GaveUp, OSError, SourceChanged.

    output  where it says how far it is
    """
    tokens = Tokens.of_environment(arguments.backend_url)
    with showing(output) as progress:
        files = await _hash_all(arguments.folder, progress)
        manifest = await asyncio.to_thread(manifest_of, arguments.folder, files)
        async with Uploader(arguments.backend_url, tokens=tokens) as uploader:
            await _upload_all(uploader, arguments, files, progress)
            patience = Patience(PATIENCE_S, progress.note)
            commit = partial(uploader.commit, arguments.robot_id, arguments.name, manifest)
            version = await persevere(commit, report=patience.report)
            made = await _import(uploader, arguments, version, progress)
    print(
        f"session {made['session_id']}: {counted(made['episodes'], 'episode')}, "
        f"{counted(made['frames'], 'frame')}, from version {made['version']} of {shown(arguments.name)}"
    )
    for note in made["notes"]:
        print(f"note: {shown(note)}")


async def _hash_all(folder: Path, progress: Progress) -> list[LocalFile]:
    found = await asyncio.to_thread(find_files, folder)
    files = []
    for number, file in enumerate(found):
        files.append(await asyncio.to_thread(hash_file, folder, file))
        progress("hashing", number + 1, len(found))
    return files


async def _upload_all(
    uploader: Uploader, arguments: argparse.Namespace, files: Sequence[LocalFile], progress: Progress
) -> None:
    """Upload what the backend lacks, some files at a time."""
    total = sum(each.size_bytes for each in files)
    left = iter(files)
    done = 0

    async def work() -> None:
        nonlocal done
        for file in left:
            await _upload(uploader, file, arguments, progress)
            done += file.size_bytes
            progress("upload", done, total)

    try:
        async with asyncio.TaskGroup() as workers:
            for _ in range(PARALLEL):
                workers.create_task(work())
    except* Exception as errors:
        # One of them says what is wrong: the others were cancelled, or failed likewise.
        first: BaseException = errors
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None


async def _upload(
    uploader: Uploader, file: LocalFile, arguments: argparse.Namespace, progress: Progress
) -> None:
    plan = FilePlan(file.described(arguments.robot_id, arguments.name))
    patience = Patience(PATIENCE_S, progress.note)

    def advance(_: int) -> None:
        patience.got_on()

    with file.file.open("rb") as content:
        source = FileBytes(content.fileno())
        await persevere(partial(uploader.upload, plan, source, advance=advance), report=patience.report)


async def _import(
    uploader: Uploader, arguments: argparse.Namespace, version: DatasetVersion, progress: Progress
) -> dict[str, Any]:
    """The import, once it is done; raises ImportFailed."""
    address = dataset_address(arguments.robot_id, arguments.name, "import") + f"?version={version.version}"
    again = "&again=true" if arguments.again else ""
    patience = Patience(PATIENCE_S, progress.note)

    async def ask(method: str, at: str) -> dict[str, Any]:
        attempt = partial(uploader.backend.ask, method, at, dict[str, Any], patience_s=SILENCE_S)
        answer = await persevere(attempt, report=patience.report)
        patience.got_on()
        return answer

    made = await ask("POST", address + again)
    while made["status"] not in ("done", "failed"):
        await asyncio.sleep(POLL_S)
        made = await ask("GET", address)
        for stage, (done, total) in STAGES.items():
            if made[total]:
                progress(stage, made[done], made[total])
    if made["status"] == "failed":
        problem = made["problem"]
        hint = problem["hint"] and problem["hint"].replace("?again=true", "--again")
        raise ImportFailed(problem["detail"], hint)
    return made


if __name__ == "__main__":
    main()
