"""What the database knows about tokens, as a part of every server: whose they are, and which are revoked."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from teleop_schema.errors import Unauthorized

from teleop_runtime.access.principal import Principal
from teleop_runtime.access.tokens import hash_of, kind_of, prefix_of
from teleop_runtime.background import Background
from teleop_runtime.postgres.pool import Pool, connected, open_pool
from teleop_runtime.serving.app import Running, ServicePart

# Their statements take milliseconds.
CONNECTIONS = 3
TIMEOUT_S = 5.0
MAX_ID = 2**63 - 1
# How long a token that was valid counts as valid without another look. A robot's samples come over one
# connection, which is looked at once; its files come in many requests.
REMEMBERED_S = 2.0
# More than there are robots; each takes a few hundred bytes.
MAX_REMEMBERED = 10_000
# How often to look whether tokens of open connections are revoked. One statement for all of them costs less
# than LISTEN, which needs a connection of its own that does not go through a pooler, and says nothing of what
# happened while that was broken.
LOOK_EVERY_S = 2.0
NEW_ONE = "ask whoever runs this backend for another one"

FIND = """
SELECT t.id, t.expires_at, t.revoked_at, p.name, p.role, p.robot_ids,
       t.last_used_at IS NULL OR t.last_used_at < now() - interval '1 minute' AS to_note
  FROM access_token t JOIN principal p ON p.id = t.principal_id
 WHERE t.hash = $1
"""

NOTE_USE = "UPDATE access_token SET last_used_at = now() WHERE id = $1"

ENDED = """
SELECT id FROM access_token WHERE id = ANY($1::bigint[]) AND (revoked_at IS NOT NULL OR expires_at <= now())
"""

ROBOTS_OF_SESSIONS = "SELECT DISTINCT robot_id FROM teleop_session WHERE id = ANY($1::bigint[])"

NOTE = """
INSERT INTO audit (principal, role, token_prefix, address, action, subject) VALUES ($1, $2, $3, $4, $5, $6)
"""


class TokenDirectory:
    """Answers what `serving.guard` asks about tokens."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._remembered: dict[bytes, tuple[Principal, float]] = {}
        self._watched: dict[int, list[asyncio.Event]] = {}

    async def find(self, token: str) -> Principal:
        """Whose token it is; raises Unauthorized if it is not one, or unknown, expired or revoked."""
        if kind_of(token) is None:
            said = "an empty token" if not token else "this is not a token of this backend"
            raise Unauthorized(
                f"{said}; its form is wrong or its end is missing", hint="copy the whole token: lrb_…"
            )
        key = hash_of(token)
        found = self._remembered.get(key)
        if found is not None and time.monotonic() - found[1] < REMEMBERED_S:
            principal = found[0]
        else:
            self._remembered.pop(key, None)
            principal = await self._look_up(key, prefix_of(token))
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[key] = principal, time.monotonic()
        if principal.expires_at is not None and principal.expires_at <= datetime.now(UTC):
            raise Unauthorized(f"the token {principal.prefix}… has expired", hint=NEW_ONE)
        return principal

    async def _look_up(self, key: bytes, prefix: str) -> Principal:
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

    async def ended(self, principal: Principal) -> None:
        """Return once its token is revoked or expired, at most LOOK_EVERY_S later."""
        assert principal.token_id is not None  # noqa: S101
        ended = asyncio.Event()
        watchers = self._watched.setdefault(principal.token_id, [])
        watchers.append(ended)
        try:
            await ended.wait()
        finally:
            watchers.remove(ended)
            if not watchers:
                self._watched.pop(principal.token_id, None)

    async def look(self) -> None:
        """Tell those who wait for the end of a token."""
        if not self._watched:
            return
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            rows = await connection.fetch(ENDED, list(self._watched))
        for row in rows:
            for ended in self._watched.get(row["id"], []):
                ended.set()

    async def robots_of_session(self, session_id: int) -> Collection[str]:
        """The robot of a session; none if there is no such session."""
        return await self.robots_of_sessions([min(session_id, MAX_ID)])

    async def robots_of_sessions(self, session_ids: Collection[int]) -> Collection[str]:
        """The robots of those of the sessions that exist."""
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            rows = await connection.fetch(ROBOTS_OF_SESSIONS, list(session_ids))
        return [row["robot_id"] for row in rows]

    async def note(self, principal: Principal, address: str | None, action: str, subject: str) -> None:
        """Keep in the table `audit` what was done."""
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            await connection.execute(
                NOTE, principal.name, principal.role, principal.prefix, address, action, subject
            )


def access_part(database_url: str) -> ServicePart:
    """The check of tokens as a part of a server; the other parts find it in the state as `tokens`."""

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[Running]:
        async with open_pool(database_url, max_size=CONNECTIONS) as pool, Background() as background:
            directory = TokenDirectory(pool)
            background.every(LOOK_EVERY_S, "look for revoked tokens", directory.look)
            yield Running(
                state={"tokens": directory, "robots_of_session_id": directory.robots_of_session},
                told=background.checks(),
            )

    return ServicePart(name="access", operations=[], lifespan=lifespan)
