"""What the database knows about tokens, as a part of every server: whose they are, and which are revoked.

`signed_in` does the same for sessions.
"""

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from teleop_schema.errors import SessionNotFound, Unauthorized
from teleop_schema.identifiers import MAX_ID

from teleop_runtime.access.principal import Principal
from teleop_runtime.access.tokens import kind_of, prefix_of
from teleop_runtime.background import Background
from teleop_runtime.lasting import Endings, Remembered
from teleop_runtime.postgres.pool import Pool, connected, open_pool
from teleop_runtime.serving.app import Running, ServicePart
from teleop_runtime.serving.guard import Bound
from teleop_runtime.signed_in import TIMEOUT_S, SessionDirectory

# What is known of a token is remembered for some seconds, so few requests reach the database.
CONNECTIONS = 3
# How often to look whether tokens and sessions of open connections have ended. One statement for all of them
# costs less than LISTEN, which needs a connection of its own that does not go through a pooler, and says
# nothing of what happened while that was broken.
LOOK_EVERY_S = 2.0
NEW_ONE = "ask whoever runs this backend for another one"

FIND = """
SELECT t.id, t.expires_at, t.revoked_at, p.name, p.role, p.robot_ids,
       t.last_used_at IS NULL OR t.last_used_at < now() - interval '1 minute' AS to_note
  FROM access_token t JOIN principal p ON p.id = t.principal_id
 WHERE t.hash = $1
"""

NOTE_USE = "UPDATE access_token SET last_used_at = now() WHERE id = $1"

STILL_VALID = """
SELECT t.id, p.robot_ids FROM access_token t JOIN principal p ON p.id = t.principal_id
 WHERE t.id = ANY($1::bigint[]) AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > now())
"""

# Of an erased session, too: who erased it is for those who could read it.
ROBOTS_OF_SESSIONS = """
SELECT id, robot_id FROM teleop_session WHERE id = ANY($1::bigint[])
 UNION
SELECT session_id, robot_id FROM erasure e
 WHERE session_id = ANY($1::bigint[]) AND NOT EXISTS (SELECT FROM teleop_session s WHERE s.id = e.session_id)
"""

NOTE = """
INSERT INTO audit (principal, role, token_prefix, address, action, subject) VALUES ($1, $2, $3, $4, $5, $6)
"""


class TokenDirectory:
    """Answers what `serving.guard` asks about tokens."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._remembered = Remembered(self._look_up)
        self._endings = Endings(self._still_valid)

    async def find(self, token: str, key: bytes) -> Principal:
        """Whose token, with this hash, it is; raises Unauthorized if it is not one, or unknown, expired or
        revoked."""
        # Its checksum is wrong: that needs no question to the database.
        if kind_of(token) is None:
            said = "an empty token" if not token else "this is not a token of this backend"
            raise Unauthorized(
                f"{said}; its form is wrong or its end is missing", hint="copy the whole token: lrb_…"
            )
        principal = await self._remembered.find((key, prefix_of(token)))
        if principal.expires_at is not None and principal.expires_at <= datetime.now(UTC):
            raise Unauthorized(f"the token {principal.prefix}… has expired", hint=NEW_ONE)
        return principal

    async def _look_up(self, token: tuple[bytes, str]) -> Principal:
        key, prefix = token
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            row = await connection.fetchrow(FIND, key)
            if row is None:
                raise Unauthorized(f"this backend does not know the token {prefix}…", hint=NEW_ONE)
            if row["revoked_at"] is not None:
                raise Unauthorized(f"the token {prefix}… was revoked", hint=NEW_ONE)
            if row["to_note"]:
                await connection.execute(NOTE_USE, row["id"])
        return Principal(
            name=row["name"],
            role=row["role"],
            robot_ids=None if row["robot_ids"] is None else frozenset(row["robot_ids"]),
            token_id=row["id"],
            prefix=prefix,
            expires_at=row["expires_at"],
        )

    async def _still_valid(self, callers: Collection[Principal]) -> Collection[Principal]:
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            rows = await connection.fetch(STILL_VALID, [each.token_id for each in callers])
        robots = {row["id"]: row["robot_ids"] for row in rows}
        return [each for each in callers if each.token_id in robots and each.keeps(robots[each.token_id])]

    async def ended(self, principal: Principal) -> None:
        """Return once its token is revoked or expired, or for fewer robots, at most LOOK_EVERY_S later."""
        await self._endings.wait(principal)

    async def look(self) -> None:
        """Tell those who wait for the end of a token."""
        await self._endings.look()

    async def robots_of_session(self, session_id: int) -> Collection[str]:
        """The robot of a session, also of an erased one; none if there is no such session."""
        return (await self.robots_of_sessions([session_id])).get(session_id, ())

    async def robots_of_sessions(self, session_ids: Collection[int]) -> Mapping[int, Collection[str]]:
        """The robot of each of the sessions that exists, or has been erased."""
        possible = [each for each in session_ids if each <= MAX_ID]
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            rows = await connection.fetch(ROBOTS_OF_SESSIONS, possible)
        robots: dict[int, set[str]] = {}
        for session_id, robot_id in rows:
            robots.setdefault(session_id, set()).add(robot_id)
        return robots

    async def note(self, principal: Principal, address: str | None, action: str, subject: str) -> None:
        """Keep in the table `audit` what was done."""
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            await connection.execute(
                NOTE, principal.name, principal.role, principal.prefix, address, action, subject
            )


def access_part(database_url: str) -> ServicePart:
    """The check of tokens and sessions as a part of a server, in the state as `tokens` and `sessions`."""

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[Running]:
        async with open_pool(database_url, max_size=CONNECTIONS) as pool, Background() as background:
            directory = TokenDirectory(pool)
            sessions = SessionDirectory(pool)

            async def look() -> None:
                await directory.look()
                await sessions.look()

            background.every(LOOK_EVERY_S, "look for revoked tokens", look)
            yield Running(
                state={
                    "tokens": directory,
                    "sessions": sessions,
                    "bound_session_id": Bound(directory.robots_of_session, SessionNotFound.of),
                },
                told=background.checks(),
            )

    return ServicePart(name="access", operations=[], lifespan=lifespan)
