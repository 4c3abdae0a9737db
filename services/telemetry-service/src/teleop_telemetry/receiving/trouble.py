"""Why frames can't be committed now: for robots, for `/readyz`, and for the metrics."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import asyncpg
from teleop_runtime.trouble import trouble_of
from teleop_schema.errors import BackendError, StorageUnavailable

from teleop_telemetry import metrics

# SQLSTATE classes that speak of the database, not of what it was given: trying again helps, once it is well.
# Connection, rollback, access and names (a migration on its way), resources, state, operators, system, setup.
# So do constraints, but for those that what a robot tells may violate: no place for the session's frames (its
# partition is gone), a column or a rule that somebody else has given the table.
DATABASE_CLASSES = frozenset(("08", "25", "28", "3D", "40", "42", "53", "55", "57", "58", "F0"))
CONSTRAINTS = "23"
OF_CONTENT = frozenset(("episode_check", "episode_outcome_check"))
UNIQUE = "23505"
# An error of another class may be of one robot's frames. It is of all once nothing else was stored for so
# long, which is several times what finding the frames takes.
OF_ALL_AFTER_S = 5.0


@dataclass(frozen=True)
class Failure:
    """Why a commit fails.

    of_all  the database says so of itself
    since   by the monotonic clock, s
    """

    error: BackendError
    of_all: bool
    since: float


class Trouble:
    """Why commits fail; several may fail at once."""

    def __init__(self) -> None:
        self._failing: dict[object, Failure] = {}
        # Those of `_failing` beside which other frames were stored.
        self._beside_others: set[object] = set()
        self._listeners: set[Callable[[], None]] = set()

    @property
    def error(self) -> BackendError | None:
        """The newest reason, None while commits succeed."""
        return next((each.error for each in reversed(self._failing.values())), None)

    @contextmanager
    def heard(self, listener: Callable[[], None]) -> Iterator[None]:
        """Call `listener` whenever `error` may have changed while the block runs."""
        self._listeners.add(listener)
        try:
            yield
        finally:
            self._listeners.discard(listener)

    def of(self, commit: object) -> bool:
        """Whether `commit` failed, and waits."""
        return commit in self._failing

    def begins(self, commit: object, error: Exception) -> None:
        """`commit`, or a writer's share of one, fails and is tried again."""
        found = explain(error)
        # Taken out and put in again, so that the newest reason is the last in the dictionary.
        known = self._failing.pop(commit, None)
        since = time.monotonic() if known is None else known.since
        self._failing[commit] = Failure(found, _is_of_all(error), since)
        if known is None or (known.error.code, known.error.detail) != (found.code, found.detail):
            self._changed()

    def stored(self) -> None:
        """Frames were stored: what fails now is not the whole database."""
        self._beside_others.update(self._failing)

    def ends(self, commit: object) -> None:
        """`commit` has ended, whether or not it succeeded."""
        self._beside_others.discard(commit)
        if self._failing.pop(commit, None) is not None:
            self._changed()

    async def check(self) -> None:
        """For `/readyz`; raises the reason why no frames are stored."""
        self._raise_first(of_all=True)

    async def check_each(self) -> None:
        """For `/readyz`; raises the reason why the frames of some robots are not stored, while others' are.

        It must not make the service unready: a robot could take it from all others.
        """
        self._raise_first(of_all=False)

    def _raise_first(self, *, of_all: bool) -> None:
        for commit, failure in self._failing.items():
            known = failure.of_all or time.monotonic() - failure.since >= OF_ALL_AFTER_S
            if (known and commit not in self._beside_others) is of_all:
                raise failure.error

    def _changed(self) -> None:
        # All of them again, as a code that no longer applies must leave the metrics.
        metrics.COMMITS_BLOCKED.clear()
        for failure in self._failing.values():
            metrics.COMMITS_BLOCKED.labels(failure.error.code).set(1)
        for listener in tuple(self._listeners):
            listener()


def is_of_the_database(error: Exception) -> bool:
    """Whether `error` is about the database, rather than about the frames."""
    if isinstance(error, asyncpg.PostgresError):
        code = error.sqlstate or ""
        if code.startswith(CONSTRAINTS):
            # A frame that is there twice is never the table's fault.
            return code != UNIQUE and error.constraint_name not in OF_CONTENT
        return code[:2] in DATABASE_CLASSES
    return isinstance(error, OSError | asyncpg.InterfaceError)


def _is_of_all(error: Exception) -> bool:
    """Whether `error` is of every frame; a constraint may refuse those of one session only."""
    if isinstance(error, asyncpg.IntegrityConstraintViolationError):
        return False
    return isinstance(error, BackendError) or is_of_the_database(error)


def explain(error: Exception) -> BackendError:
    """The error to report for a commit that failed with `error`."""
    if isinstance(error, BackendError):
        return error
    if _is_of_all(error):
        return trouble_of(error) or StorageUnavailable()
    # Without the row that failed, which PostgreSQL's details quote.
    return StorageUnavailable(f"frames can't be committed: {getattr(error, 'message', None) or error}")
