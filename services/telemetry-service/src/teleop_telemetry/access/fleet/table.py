"""The one place that writes pools, and requests to join."""

from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
from msgspec import convert
from teleop_runtime.access.codes import LASTS_S, make_code, read_code
from teleop_runtime.access.sessions import hash_of_secret
from teleop_runtime.access.tokens import POOL, hash_of, kind_of, make_token, prefix_of
from teleop_runtime.postgres.pool import Connection, Pool, connected, transaction
from teleop_schema.errors import (
    EnrolmentFailed,
    JoinDenied,
    JoinExpired,
    JoinRequestNotFound,
    PoolExists,
    PoolFull,
    PoolNotFound,
    RobotKnown,
    TooManyAttempts,
)
from teleop_schema.words import counted

from teleop_telemetry.access.fleet.views import Asked, Asking, JoinRequest, NewPool, PoolView
from teleop_telemetry.access.token_table import REVOKE, TIMEOUT_S, add_token

# Requests of strangers that wait at a time: all of them, and those of one address. Neither pools nor lines
# need any of these places.
MAX_WAITING = 100
MAX_WAITING_OF_ADDRESS = 10
# A fleet is switched on when it is, and approved when somebody comes.
POOL_LASTS_S = 7 * 24 * 3600
# For this time, a refused robot that asks again is told of it.
FORGET_S = 24 * 3600

ADD_POOL = """
INSERT INTO robot_pool (name, hash, beginning, prefix, max_robots, approve, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (name) WHERE removed_at IS NULL DO NOTHING RETURNING id
"""

POOLS = """
SELECT p.name, p.prefix, p.max_robots, p.approve, p.beginning, p.created_at, p.expires_at,
       count(r.joined_at) AS robots,
       count(*) FILTER (WHERE r.joined_at IS NULL AND r.denied_at IS NULL AND r.expires_at > now()) AS waiting
  FROM robot_pool p LEFT JOIN join_request r ON r.pool_id = p.id
 WHERE p.removed_at IS NULL AND ($1::text IS NULL OR p.name = $1)
 GROUP BY p.id ORDER BY p.name
"""

# The row stays, as the requests of its robots refer to it; its name is free.
REMOVE_POOL = "UPDATE robot_pool SET removed_at = now() WHERE name = $1 AND removed_at IS NULL RETURNING id"

# Locked, so that two robots that join at the same time count each other.
FIND_POOL = """
SELECT id, name, prefix, max_robots, approve FROM robot_pool
 WHERE hash = $1 AND removed_at IS NULL AND (expires_at IS NULL OR expires_at > now()) FOR UPDATE
"""

# One new request, or one new robot, at a time.
ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(hashtextextended('join_request', 0))"

FIND = """
SELECT id, robot_id, code, pool_id, expires_at, expires_at <= now() AS expired, approved_at, denied_at,
       joined_at, token_id
  FROM join_request WHERE hash = $1 FOR UPDATE
"""

# Until then, a computer that comes back late hears that its time is over, not that it is unknown.
FORGET = """
DELETE FROM join_request
 WHERE joined_at IS NULL AND expires_at < now() - make_interval(secs => $1)
"""

# A name that nobody has, and nobody else is about to get: then no computer takes the place of another.
IS_KNOWN = """
SELECT EXISTS (SELECT FROM robot WHERE robot_id = $1)
    OR EXISTS (SELECT FROM principal WHERE role = 'robot' AND name = $1)
    OR EXISTS (SELECT FROM enrolment WHERE robot_id = $1 AND used_at IS NULL AND expires_at > now())
"""

# Requests of strangers hold no name: anybody could then keep a robot out by asking for its name.
IS_ASKED_FOR = """
SELECT EXISTS (SELECT FROM join_request
                WHERE robot_id = $1 AND id <> $2 AND pool_id IS NOT NULL AND denied_at IS NULL
                  AND (joined_at IS NOT NULL OR expires_at > now()))
"""

PLACES_OF_POOL = """
SELECT count(*) FROM join_request
 WHERE pool_id = $1 AND denied_at IS NULL AND (joined_at IS NOT NULL OR expires_at > now())
"""

STRANGERS = """
SELECT count(*), count(*) FILTER (WHERE address = $1) FROM join_request
 WHERE pool_id IS NULL AND joined_at IS NULL AND denied_at IS NULL AND expires_at > now()
"""

ADD = """
INSERT INTO join_request (robot_id, hash, code, pool_id, address, expires_at, approved_at)
VALUES ($1, $2, $3, $4, $5, now() + make_interval(secs => $6), CASE WHEN $7 THEN now() END)
ON CONFLICT (code) DO NOTHING RETURNING id
"""

IS_VALID = """
SELECT EXISTS (SELECT FROM access_token
                WHERE id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now()))
"""

JOINED = "UPDATE join_request SET joined_at = coalesce(joined_at, now()), token_id = $2 WHERE id = $1"

WAITING = """
SELECT r.robot_id, r.code, p.name AS pool, r.address, r.created_at AS asked_at, r.expires_at,
       r.approved_at IS NOT NULL AS approved,
       EXISTS (SELECT FROM robot WHERE robot_id = r.robot_id)
           OR EXISTS (SELECT FROM principal WHERE role = 'robot' AND name = r.robot_id) AS known
  FROM join_request r LEFT JOIN robot_pool p ON p.id = r.pool_id
 WHERE r.joined_at IS NULL AND r.denied_at IS NULL AND r.expires_at > now() AND p.removed_at IS NULL
   AND ($1::text IS NULL OR r.code = $1)
 ORDER BY r.id
"""

# It has time to come back, too, if it is approved in the last moment.
APPROVE = """
UPDATE join_request SET approved_at = coalesce(approved_at, now()),
       expires_at = greatest(expires_at, now() + make_interval(secs => $2))
 WHERE code = $1 AND joined_at IS NULL AND denied_at IS NULL AND expires_at > now()
"""

DENY = """
UPDATE join_request SET denied_at = now()
 WHERE code = $1 AND joined_at IS NULL AND denied_at IS NULL AND expires_at > now()
"""

ASK_ADMIN = "ask whoever runs this backend for a line of its own: robots add <robot_id>"


class FleetTable:
    """Writes `robot_pool` and `join_request`; what they let in gets its token from `token_table`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add_pool(self, wanted: NewPool) -> tuple[PoolView, str]:
        """A new pool and its token; raises PoolExists."""
        token = make_token(POOL)
        async with transaction(self._pool, timeout_s=TIMEOUT_S) as connection:
            added = await connection.fetchval(
                ADD_POOL,
                wanted.name,
                hash_of(token),
                prefix_of(token),
                wanted.prefix,
                wanted.max_robots,
                wanted.approve,
                wanted.expires_at,
            )
            if added is None:
                raise PoolExists(
                    f"there is a pool {wanted.name!r} already",
                    field="name",
                    hint="remove it first: its line then lets nobody in any more",
                )
            (made,) = await connection.fetch(POOLS, wanted.name)
        return convert(dict(made), PoolView), token

    async def pools(self) -> list[PoolView]:
        """The pools that were not removed, by name."""
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            return [convert(dict(row), PoolView) for row in await connection.fetch(POOLS, None)]

    async def remove_pool(self, name: str) -> None:
        """Let no more robots join with it; those that have joined stay. Raises PoolNotFound."""
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            if await connection.fetchval(REMOVE_POOL, name) is None:
                raise PoolNotFound(f"there is no pool {name[:100]!r}", field="pool")

    async def ask(self, asking: Asking, address: str) -> tuple[Asked, str]:
        """How far the request of this computer is, which is made if it is new; and by what it joins.

        Raises EnrolmentFailed, RobotKnown, PoolFull, TooManyAttempts, JoinDenied, JoinExpired.
        """
        key = hash_of_secret(asking.secret)
        async with transaction(self._pool, timeout_s=TIMEOUT_S) as connection:
            pool = None if asking.pool is None else await _find_pool(connection, asking.pool)
            await connection.execute(ONE_AT_A_TIME)
            request = await connection.fetchrow(FIND, key)
            if request is None:
                await _check_new(connection, asking.robot_id, pool, address)
                await _add(connection, asking.robot_id, key, pool, address)
                request = await connection.fetchrow(FIND, key)
            assert request is not None  # noqa: S101
            of_pool = None if pool is None else pool["id"]
            if (request["robot_id"], request["pool_id"]) != (asking.robot_id, of_pool):
                raise EnrolmentFailed(
                    "this secret is that of another request", field="secret", hint="make another one"
                )
            token = await _token_for(connection, request)
        asked = Asked(
            robot_id=asking.robot_id, code=request["code"], token=token, expires_at=request["expires_at"]
        )
        return asked, "approval" if pool is None else f"the pool {pool['name']}"

    async def waiting(self) -> list[JoinRequest]:
        """Whoever waits, the oldest first."""
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            return [convert(dict(row), JoinRequest) for row in await connection.fetch(WAITING, None)]

    async def approve(self, code: str) -> JoinRequest:
        """Give its token to whoever shows this code, once it comes back; raises JoinRequestNotFound."""
        return await self._decide(code, lambda connection, told: connection.execute(APPROVE, told, LASTS_S))

    async def deny(self, code: str) -> JoinRequest:
        """Refuse whoever shows this code; raises JoinRequestNotFound."""
        return await self._decide(code, lambda connection, told: connection.execute(DENY, told))

    async def _decide(self, typed: str, decide: Callable[[Connection, str], Awaitable[Any]]) -> JoinRequest:
        code = read_code(typed)
        async with transaction(self._pool, timeout_s=TIMEOUT_S) as connection:
            await connection.execute(ONE_AT_A_TIME)
            row = None if code is None else await connection.fetchrow(WAITING, str(code))
            if row is None:
                raise JoinRequestNotFound(
                    f"no robot waits with the code {typed[:20]!r}",
                    field="code",
                    hint="it may have been denied, or have expired; see: robots waiting",
                )
            await decide(connection, str(code))
        return convert(dict(row), JoinRequest)


async def _find_pool(connection: Connection, token: str) -> asyncpg.Record:
    pool = await connection.fetchrow(FIND_POOL, hash_of(token)) if kind_of(token) == POOL else None
    if pool is None:
        raise EnrolmentFailed(
            "the line is wrong, was removed, or has expired",
            field="pool",
            hint="ask whoever runs this backend for another one",
        )
    return pool


async def _check_new(
    connection: Connection, robot_id: str, pool: asyncpg.Record | None, address: str
) -> None:
    """Raise the reason why such a request can't be made."""
    await connection.execute(FORGET, FORGET_S)
    if pool is None:
        row = await connection.fetchrow(STRANGERS, address)
        assert row is not None  # noqa: S101
        limits = ((row[0], MAX_WAITING, ""), (row[1], MAX_WAITING_OF_ADDRESS, " from your address"))
        for waiting, most, whose in limits:
            if waiting >= most:
                raise TooManyAttempts(
                    f"{most} requests to join{whose} wait for approval already", limit=most, hint=ASK_ADMIN
                )
        return
    if not robot_id.startswith(pool["prefix"]):
        raise EnrolmentFailed(
            f"this line is for robots whose names begin with {pool['prefix']!r}",
            field="robot_id",
            hint="set --robot_id or LEROBOT_BACKEND_ROBOT_ID",
        )
    await _check_unknown(connection, robot_id, 0)
    most = pool["max_robots"]
    if most is not None and await connection.fetchval(PLACES_OF_POOL, pool["id"]) >= most:
        raise PoolFull(
            f"this line is for {counted(most, 'robot')}, and as many have joined or wait",
            limit=most,
            hint=ASK_ADMIN,
        )


async def _check_unknown(connection: Connection, robot_id: str, request_id: int) -> None:
    """Raise RobotKnown if there is a robot of that name, or another request of a fleet for it."""
    if await connection.fetchval(IS_KNOWN, robot_id) or await connection.fetchval(
        IS_ASKED_FOR, robot_id, request_id
    ):
        raise RobotKnown(
            f"there is a robot {robot_id} already, or another computer has asked for that name",
            field="robot_id",
            hint=f"give this robot another name; if it is the same robot, {ASK_ADMIN}",
        )


async def _add(
    connection: Connection, robot_id: str, key: bytes, pool: asyncpg.Record | None, address: str
) -> None:
    pool_id, lasts_s = (None, LASTS_S) if pool is None else (pool["id"], POOL_LASTS_S)
    approved = pool is not None and not pool["approve"]
    added = None
    while added is None:
        code = str(make_code())
        added = await connection.fetchval(ADD, robot_id, key, code, pool_id, address, lasts_s, approved)


async def _token_for(connection: Connection, request: asyncpg.Record) -> str | None:
    """The token of a computer that may join; None: it waits. Raises why it may not."""
    robot_id: str = request["robot_id"]
    if request["denied_at"] is not None:
        raise JoinDenied(f"an admin has denied that this computer joins as {robot_id}", hint=ASK_ADMIN)
    if request["joined_at"] is not None:
        # The answer may have been lost; but whose token was revoked does not get around that.
        if not await connection.fetchval(IS_VALID, request["token_id"]):
            raise JoinDenied(f"the token that {robot_id} was given is no longer valid", hint=ASK_ADMIN)
        await connection.execute(REVOKE, request["token_id"])
    elif request["expired"]:
        raise JoinExpired(
            f"nobody has approved in time that this computer joins as {robot_id}", hint="ask again"
        )
    elif request["approved_at"] is None:
        return None
    elif request["pool_id"] is not None:
        await _check_unknown(connection, robot_id, request["id"])
    made = await add_token(connection, robot_id, "robot", [robot_id], None)
    await connection.execute(JOINED, request["id"], made.id)
    return made.token
