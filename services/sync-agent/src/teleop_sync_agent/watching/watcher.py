"""Hints that something changed below the watched roots. Hints may be missing, so only rescans count."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from teleop_dataset.folder import is_passed_over
from watchfiles import awatch
from watchfiles._rust_notify import WatchfilesRustInternalError

from teleop_sync_agent.keeping.receipts import RECEIPTS_FOLDER

# Changes are reported together, because a recording writes hundreds of pictures a second.
DEBOUNCE_MS = 1000
# Hints that arrive together lead to one look.
STEP_MS = 200
# A root that can't be watched (a limit of the system) is scanned meanwhile.
RETRY_S = 60.0

log = logging.getLogger(__name__)


async def watch(root: Path, changed: Callable[[Path], None], heard: Callable[[bool], None]) -> None:
    """Call `changed` with each path below `root` that changed, forever.

    If watching does not work (no inotify left, a network drive), it is tried again every minute.

    heard  called with False when it does not work, True when it does
    """
    told = ""
    while True:
        try:
            async for changes in awatch(
                root,
                # The default leaves out names that a dataset may have.
                watch_filter=None,
                debounce=DEBOUNCE_MS,
                step=STEP_MS,
                # One folder of somebody else must not keep all others from being heard of.
                ignore_permission_denied=True,
            ):
                told = ""
                heard(True)
                for _, path in changes:
                    changed(Path(path))
        except* (OSError, WatchfilesRustInternalError) as errors:
            # The second is how the notifier raises its own errors, such as a user having no inotify instances
            # left; in a group, what it meets while it watches, such as a name that is not UTF-8.
            heard(False)
            error = str(_first(errors))
            if error != told:
                told = error
                log.warning(
                    "this folder can't report changes: it is scanned every minute instead",
                    extra={"root": str(root), "error": told},
                )
        await asyncio.sleep(RETRY_S)


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def dataset_of(path: Path, root: Path, folders: set[Path]) -> Path | None:
    """Which of the known datasets a changed path belongs to.

    None if it belongs to none of them, or is not part of the dataset.
    """
    for folder in path.parents:
        if folder in folders:
            below = path.relative_to(folder)
            return (
                None if any(is_passed_over(part.as_posix()) for part in (below, *below.parents)) else folder
            )
        if folder == root:
            return None
    return None


def may_be_new(path: Path, root: Path, folders: set[Path]) -> bool:
    """Whether a changed path may belong to a dataset that is not known yet."""
    if not path.is_relative_to(root) or RECEIPTS_FOLDER in path.relative_to(root).parts:
        return False
    return not any(folder in folders for folder in (path, *path.parents))
