"""`sync-agent verify`: compares a dataset here, its receipts and the server's copy."""

from dataclasses import dataclass, field
from pathlib import Path

from lerobot_robot_backend.shipping.recall import Unaskable, ask
from teleop_client.backend_http import BackendHttp
from teleop_client.uploading import FileBytes
from teleop_dataset.folder import look
from teleop_schema.disk.opening import open_regular
from teleop_schema.holding import Held, HeldVersion

from teleop_sync_agent.errors import explain
from teleop_sync_agent.keeping.receipts import LocalReceipt, Receipts
from teleop_sync_agent.keeping.state import DatasetRow
from teleop_sync_agent.restoring.backups import differences, stored_files, verify_stored
from teleop_sync_agent.sending.chunking import ShortRead, digest


@dataclass
class Comparison:
    """The result of a comparison.

    problems      (path, what is wrong)
    left_out      (path, why) of files that the server does not accept: they are only here
    only_there    paths that only the server has; it keeps them for good
    read_there    objects that the server has read again
    overtaken_by  number of the newest version under its name, if another computer has stored that
    """

    files: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    only_there: list[str] = field(default_factory=list)
    read_there: int = 0
    overtaken_by: int | None = None


async def compare(row: DatasetRow, robot_id: str, backend: BackendHttp) -> Comparison:
    """Hash every file of the dataset, and compare it with its receipt and the server's copy.

    Raises Interrupted, Refused.
    """
    folder = Path(row.folder)
    found = Comparison()
    seen = look(folder)
    mine = {}
    for path, file in seen.files.items():
        try:
            mine[path] = _hash(folder / file.own_path)
        except (OSError, ShortRead) as error:
            found.problems.append((path, f"can't be read: {explain(error)}"))
    found.files = len(mine)
    receipts = Receipts(Path(row.root))
    for path, told in mine.items():
        relative = f"{folder.relative_to(row.root).as_posix()}/{path}"
        if problem := _receipt_problem(told, receipts.read(relative)):
            found.problems.append((path, problem))
    theirs = await stored_files(backend, robot_id, row.name, row.version)
    found.problems += differences(mine, theirs)
    for skipped in seen.skipped:
        known = skipped.is_unreadable or skipped.path in theirs
        (found.problems if known else found.left_out).append((skipped.path, skipped.reason))
    left_out = {skipped.path for skipped in seen.skipped}
    found.only_there = sorted(theirs.keys() - mine.keys() - left_out)
    size_bytes = sum(file.size_bytes for file in theirs.values())
    verified = await verify_stored(backend, robot_id, row.name, row.version, size_bytes=size_bytes)
    found.read_there = verified.checked
    found.problems += [(file.path, f"damaged on the server: {file.damage}") for file in verified.damaged]
    found.overtaken_by = await _overtaken_by(row, robot_id, backend)
    return found


async def _overtaken_by(row: DatasetRow, robot_id: str, backend: BackendHttp) -> int | None:
    if not row.manifest_sha256:
        return None
    held = Held(robot_id=robot_id, versions=(HeldVersion(row.name, row.manifest_sha256),))
    try:
        overtaken = (await ask(backend, held)).overtaken
    except Unaskable:  # a backend of an older release, which does not tell
        return None
    return next((each.newest for each in overtaken), None)


def _hash(path: Path) -> tuple[int, str]:
    with open_regular(path) as file:
        size_bytes = file.seek(0, 2)
        return size_bytes, digest(FileBytes(file.fileno()), size_bytes).sha256


def _receipt_problem(told: tuple[int, str], receipt: LocalReceipt | None) -> str | None:
    if receipt is None:
        return "it has no receipt"
    if (receipt.size_bytes, receipt.sha256) != told:
        return "its bytes do not match its receipt"
    return None
