"""Rows of `outcome_reason`: why an episode has its outcome, as far as there is to choose from here."""

from typing import Annotated

from msgspec import Meta, Struct, convert
from teleop_runtime.postgres.pool import Connection, Pool, connected

from teleop_telemetry.tables.views import Outcome

TIMEOUT_S = 10.0
# A person chooses from them.
MAX_REASONS = 200

LIST = "SELECT * FROM outcome_reason ORDER BY outcome, name"
OUTCOMES = "SELECT name, outcome FROM outcome_reason"
PUT = """
INSERT INTO outcome_reason (name, outcome, meaning, restorable)
SELECT $1, $2, $3, $4 WHERE EXISTS (SELECT FROM outcome_reason WHERE name = $1)
                         OR (SELECT count(*) FROM outcome_reason) < $5
ON CONFLICT (name) DO UPDATE SET outcome = $2, meaning = $3, restorable = $4
RETURNING name
"""
DELETE = "DELETE FROM outcome_reason WHERE name = $1 RETURNING name"

Meaning = Annotated[str, Meta(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$")]


class NewReason(Struct, forbid_unknown_fields=True, kw_only=True):
    """Why an episode has an outcome.

    meaning     in words, for those who choose
    restorable  whether such an episode may still be of use, for example once it is trimmed
    """

    outcome: Outcome
    meaning: Meaning
    restorable: bool = True


class OutcomeReason(NewReason, kw_only=True):
    """One of the reasons there are.

    name  by which episodes and datasets tell it
    """

    name: str


class ReasonTable:
    """Reads and writes `outcome_reason`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def all(self) -> list[OutcomeReason]:
        """By outcome and name."""
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            return [convert(dict(row), OutcomeReason) for row in await connection.fetch(LIST)]

    async def put(self, name: str, reason: NewReason) -> bool:
        """Add a reason, or change it; whether there was room for another one."""
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            told = reason.outcome, reason.meaning, reason.restorable
            return await connection.fetchval(PUT, name, *told, MAX_REASONS) is not None

    async def remove(self, name: str) -> bool:
        """Whether there was one of this name; episodes that have it keep it."""
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            return await connection.fetchval(DELETE, name) is not None


async def read_reasons(connection: Connection) -> dict[str, Outcome]:
    """Each name with the outcome that it is a reason for."""
    return {row["name"]: row["outcome"] for row in await connection.fetch(OUTCOMES)}
