"""Rows of `flag_threshold`: thresholds that people have set, in place of the defaults."""

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct
from teleop_runtime.postgres.pool import Pool, connected, transaction

from teleop_telemetry.suspicion.catalogue import DEFAULTS, KINDS, FlagName

TIMEOUT_S = 10.0

LATEST = """
SELECT DISTINCT ON (flag) flag, threshold, changed_at, changed_by FROM flag_threshold
 ORDER BY flag, revision DESC
"""
REVISION = "SELECT coalesce(max(revision), 0) FROM flag_threshold"
# One after the other, so that a greater revision is a later one.
LOCK = "LOCK TABLE flag_threshold IN SHARE ROW EXCLUSIVE MODE"
ADD = """
INSERT INTO flag_threshold (revision, flag, threshold, changed_by)
SELECT coalesce(max(revision), 0) + 1, $1, $2, $3 FROM flag_threshold
"""


class FlagKind(Struct, kw_only=True):
    """One kind of flag.

    unit        of its values and of its threshold
    measures    what the value is
    why         why it matters
    below       whether a value below the threshold is suspicious, not one above it
    threshold   beyond which an episode has this flag
    default     the threshold as long as nobody sets another
    changed_at  when somebody set it; null: nobody has
    changed_by  who set it
    """

    name: FlagName
    unit: str
    measures: str
    why: str
    below: bool
    threshold: float
    default: float
    changed_at: datetime | None
    changed_by: str | None


class Thresholds(Struct, frozen=True):
    """All of them, as of a revision."""

    revision: int
    of: Mapping[FlagName, float]


class ThresholdTable:
    """Reads and writes `flag_threshold`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def thresholds(self) -> Thresholds:
        """As they are now."""
        async with transaction(self._pool, timeout_s=TIMEOUT_S, snapshot=True) as connection:
            revision = await connection.fetchval(REVISION)
            rows = await connection.fetch(LATEST)
        told = {row["flag"]: row["threshold"] for row in rows if row["threshold"] is not None}
        return Thresholds(revision, {name: told.get(name, default) for name, default in DEFAULTS.items()})

    async def kinds(self) -> list[FlagKind]:
        """Every kind of flag with its threshold."""
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            told = {row["flag"]: row for row in await connection.fetch(LATEST)}
        kinds = []
        for name, kind in KINDS.items():
            row = told.get(name)
            threshold = kind.default if row is None or row["threshold"] is None else row["threshold"]
            kinds.append(
                FlagKind(
                    name=name,
                    unit=kind.unit,
                    measures=kind.measures,
                    why=kind.why,
                    below=kind.below,
                    threshold=threshold,
                    default=kind.default,
                    changed_at=None if row is None else row["changed_at"],
                    changed_by=None if row is None else row["changed_by"],
                )
            )
        return kinds

    async def put(self, name: FlagName, threshold: float | None, by: str) -> None:
        """Set one; None: to its default."""
        async with transaction(self._pool, timeout_s=TIMEOUT_S) as connection:
            await connection.execute(LOCK)
            await connection.execute(ADD, name, threshold, by)
