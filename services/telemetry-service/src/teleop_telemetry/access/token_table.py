"""The one place that writes principals, tokens and enrolments."""

import hmac
from collections.abc import Sequence
from datetime import datetime

import asyncpg
from msgspec import convert
from teleop_runtime.access.codes import LASTS_S, MAX_TRIES, Code, make_code, read_code
from teleop_runtime.access.roles import Role
from teleop_runtime.access.tokens import hash_of, make_token, prefix_of
from teleop_runtime.postgres.pool import Connection, Pool, connected, transaction
from teleop_schema.errors import BadInput, EnrolmentFailed, TokenNotFound

from teleop_telemetry.access.views import (
    Change,
    ChangePage,
    Joined,
    MadeToken,
    RobotAccess,
    TokenPage,
    TokenView,
)

# Somebody waits for the answer, and these tables are small.
TIMEOUT_S = 10.0
# A robot that joins again uses its new token at once; the one before works until then.
LIVE_TOKENS_OF_A_ROBOT = 2

# What was said last counts, for older tokens of the same name and role as well.
PUT_PRINCIPAL = """
INSERT INTO principal (name, role, robot_ids) VALUES ($1, $2, $3)
ON CONFLICT (role, name) DO UPDATE SET robot_ids = $3 RETURNING id
"""

# Somebody who was let in for some robots only, and is about to be for all of them.
NARROWED = """
SELECT robot_ids FROM principal
 WHERE lower(name) = lower($1) AND role = ANY($2) AND role <> 'robot' AND robot_ids IS NOT NULL LIMIT 1
"""

# PUT_PRINCIPAL has locked the principal, so two who add a token at the same time see each other's.
REVOKE_OLDER = """
UPDATE access_token SET revoked_at = now()
 WHERE id IN (SELECT id FROM access_token
               WHERE principal_id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
               ORDER BY id DESC OFFSET $2)
"""

ADD = "INSERT INTO access_token (principal_id, hash, prefix, expires_at) VALUES ($1, $2, $3, $4) RETURNING id"

SELECT = """
SELECT t.id, p.name, p.role, p.robot_ids, t.prefix, t.created_at, t.expires_at, t.last_used_at, t.revoked_at
  FROM access_token t JOIN principal p ON p.id = t.principal_id
"""
GET = f"{SELECT} WHERE t.id = $1"
LIST = f"{SELECT} WHERE $1::bigint IS NULL OR t.id < $1 ORDER BY t.id DESC LIMIT $2"
NAMED = f"{SELECT} WHERE t.id::text = $1 OR t.prefix = $1 ORDER BY t.id"

# A token that was revoked before keeps the time of that.
REVOKE = "UPDATE access_token SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1 RETURNING id"

# Two codes of the same name at a time would make the tries of one those of the other.
ENROL = """
INSERT INTO enrolment (robot_id, code_name, hash, expires_at)
SELECT $1, $2, $3, now() + make_interval(secs => $4)
 WHERE NOT EXISTS (SELECT FROM enrolment WHERE code_name = $2 AND expires_at > now())
RETURNING expires_at
"""

# Counts first, and for itself, so that no try is free.
TRY = """
UPDATE enrolment SET tries = tries + 1
 WHERE code_name = $1 AND used_at IS NULL AND expires_at > now() AND tries < $2
RETURNING id, robot_id, hash
"""

# Of two computers that type the code at the same time, one joins.
USE = "UPDATE enrolment SET used_at = now() WHERE id = $1 AND used_at IS NULL RETURNING id"

# A robot may have recorded without a token, have one without having recorded, or wait to join.
ROBOTS = """
SELECT name AS robot_id,
       (SELECT count(*) FROM principal p JOIN access_token t ON t.principal_id = p.id
         WHERE p.role = 'robot' AND p.name = known.name AND t.revoked_at IS NULL
           AND (t.expires_at IS NULL OR t.expires_at > now())) AS tokens,
       (SELECT max(t.last_used_at) FROM principal p JOIN access_token t ON t.principal_id = p.id
         WHERE p.role = 'robot' AND p.name = known.name) AS last_used_at,
       EXISTS (SELECT FROM enrolment e
                WHERE e.robot_id = known.name AND e.used_at IS NULL AND e.expires_at > now()) AS waiting,
       coalesce(clashing.clashing_sessions, '{}') AS clashing_sessions, clashing.clashed_at
  FROM (SELECT robot_id AS name FROM robot
         UNION SELECT name FROM principal WHERE role = 'robot'
         UNION SELECT robot_id FROM enrolment WHERE used_at IS NULL AND expires_at > now()) AS known
  LEFT JOIN robot clashing ON clashing.robot_id = name AND clashing.clashed_at > now() - interval '7 days'
 ORDER BY name
"""

CHANGES = "SELECT * FROM audit WHERE $1::bigint IS NULL OR id < $1 ORDER BY id DESC LIMIT $2"

FAILED = "the code is wrong, was used, or has expired"


class TokenTable:
    """Writes `principal`, `access_token` and `enrolment`, and reads `audit`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add(
        self,
        name: str,
        role: Role,
        robot_ids: Sequence[str] | None,
        expires_at: datetime | None,
        *,
        widens: bool,
    ) -> MadeToken:
        """A new token; older ones of a robot that has more than LIVE_TOKENS_OF_A_ROBOT are revoked.

        widens  whether older tokens that are for some robots only may become tokens for all

        Raises BadInput if they may not, or if a robot's token is to be for others than itself.
        """
        if role == "robot":
            if robot_ids is not None and list(robot_ids) != [name]:
                raise BadInput("the token of a robot is for that robot only", field="robot_ids")
            robot_ids = [name]
        async with transaction(self._pool, timeout_s=TIMEOUT_S) as connection:
            if robot_ids is None and not widens:
                await check_not_narrowed(connection, name, [role])
            return await add_token(connection, name, role, robot_ids, expires_at)

    async def page(self, cursor: int | None, limit: int) -> TokenPage:
        """Up to `limit` tokens, newest first."""
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            rows = await connection.fetch(LIST, cursor, limit + 1)
        tokens = [_view(row) for row in rows[:limit]]
        return TokenPage(tokens, tokens[-1].id if len(rows) > limit else None)

    async def named(self, word: str) -> TokenView:
        """The token with this id or prefix; raises TokenNotFound, or BadInput if there are several."""
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            rows = await connection.fetch(NAMED, word)
        if not rows:
            raise TokenNotFound(f"there is no token {word[:100]!r}")
        if len(rows) > 1:
            raise BadInput(f"several tokens begin with {word!r}: name one by its number")
        return _view(rows[0])

    async def revoke(self, token_id: int) -> None:
        """End a token, if that was not done before; raises TokenNotFound."""
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            if await connection.fetchval(REVOKE, token_id) is None:
                raise TokenNotFound(f"there is no token {token_id}", field="token_id")

    async def enrol(self, robot_id: str) -> tuple[Code, datetime]:
        """A code by which the robot can join, and when it expires."""
        while True:
            code = make_code()
            async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
                expires_at = await connection.fetchval(ENROL, robot_id, code.name, code.hash, LASTS_S)
            if expires_at is not None:
                return code, expires_at

    async def join(self, typed: str) -> Joined:
        """The token of the robot that was given this code; raises EnrolmentFailed, whatever is wrong."""
        failed = EnrolmentFailed(FAILED, field="code", hint="ask for a new line: robots add <robot_id>")
        code = read_code(typed)
        if code is None:
            raise failed
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            tried = await connection.fetchrow(TRY, code.name, MAX_TRIES)
        # In constant time: the time of the answer must not tell how much of the code is right.
        if tried is None or not hmac.compare_digest(tried["hash"], code.hash):
            raise failed
        async with transaction(self._pool, timeout_s=TIMEOUT_S) as connection:
            if await connection.fetchval(USE, tried["id"]) is None:
                raise failed
            robot_id: str = tried["robot_id"]
            made = await add_token(connection, robot_id, "robot", [robot_id], None)
        return Joined(robot_id, made.token, made.expires_at)

    async def robots(self) -> list[RobotAccess]:
        """Robots that have recorded, or may."""
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            return [convert(dict(row), RobotAccess) for row in await connection.fetch(ROBOTS)]

    async def changes(self, cursor: int | None, limit: int) -> ChangePage:
        """Up to `limit` changes, newest first."""
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            rows = await connection.fetch(CHANGES, cursor, limit + 1)
        changes = [convert(dict(row), Change) for row in rows[:limit]]
        return ChangePage(changes, changes[-1].id if len(rows) > limit else None)


async def check_not_narrowed(connection: Connection, name: str, roles: Sequence[Role]) -> None:
    """Raise BadInput if somebody of that name and one of these roles is for some robots only."""
    narrowed = await connection.fetchval(NARROWED, name, list(roles))
    if narrowed is not None:
        mine = ", ".join(narrowed)
        raise BadInput(
            f"{name} is for data of {mine} only, and would be for that of all robots from now on",
            field="robot_ids",
            hint='name the robots again (--robot), or say so: "robot_ids": null (--all-robots)',
        )


async def add_token(
    connection: Connection,
    name: str,
    role: Role,
    robot_ids: Sequence[str] | None,
    expires_at: datetime | None,
) -> MadeToken:
    """A new token, in the caller's transaction; see `TokenTable.add`."""
    principal_id = await connection.fetchval(PUT_PRINCIPAL, name, role, robot_ids)
    if role == "robot":
        await connection.execute(REVOKE_OLDER, principal_id, LIVE_TOKENS_OF_A_ROBOT - 1)
    token = make_token(role)
    token_id = await connection.fetchval(ADD, principal_id, hash_of(token), prefix_of(token), expires_at)
    row = await connection.fetchrow(GET, token_id)
    assert row is not None  # noqa: S101
    return convert({**row, "token": token}, MadeToken)


def _view(row: asyncpg.Record) -> TokenView:
    return convert(dict(row), TokenView)
