"""What the database knows about people who have signed in: whose a session is, and which have ended."""

from collections.abc import Collection

from teleop_runtime.access.forward_auth import Grant
from teleop_runtime.access.principal import Principal
from teleop_runtime.lasting import Endings, Remembered
from teleop_runtime.postgres.pool import Pool, connected

# Statements about tokens and sessions take milliseconds.
TIMEOUT_S = 5.0

# A session that came of a token ends with it.
LIVE = """
SELECT s.id, s.expires_at, p.name, p.role, p.robot_ids, t.prefix,
       s.last_used_at < now() - interval '1 minute' AS to_note
  FROM web_session s JOIN principal p ON p.id = s.principal_id LEFT JOIN access_token t ON t.id = s.token_id
 WHERE s.ended_at IS NULL AND s.expires_at > now() AND s.last_used_at > now() - interval '14 days'
   AND (t.id IS NULL OR (t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > now())))
"""
FIND = f"{LIVE} AND s.hash = $1"
STILL_LIVE = f"{LIVE} AND s.id = ANY($1::bigint[])"

NOTE_USE = "UPDATE web_session SET last_used_at = now() WHERE id = $1"

PERSON = """
SELECT p.role, p.robot_ids FROM person JOIN principal p ON p.id = person.principal_id
 WHERE lower(person.name) = lower($1)
"""


class SessionDirectory:
    """Answers what `serving.guard` asks about people."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sessions = Remembered(self._find)
        self._people = Remembered(self._person)
        self._endings = Endings(self._still_live)

    async def find(self, key: bytes) -> Principal | None:
        """Whose session, whose id has this hash, it is; None if it is unknown, or has ended."""
        return await self._sessions.find(key)

    async def person(self, name: str) -> Grant | None:
        """What `people add` has said of somebody; None: nothing."""
        return await self._people.find(name)

    async def ended(self, principal: Principal) -> None:
        """Return once its session has ended, or is for fewer robots, soon after that."""
        await self._endings.wait(principal)

    async def look(self) -> None:
        """Tell those who wait for the end of a session."""
        await self._endings.look()

    async def _still_live(self, callers: Collection[Principal]) -> Collection[Principal]:
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            rows = await connection.fetch(STILL_LIVE, [each.session_id for each in callers])
        robots = {row["id"]: row["robot_ids"] for row in rows}
        return [each for each in callers if each.session_id in robots and each.keeps(robots[each.session_id])]

    async def _find(self, key: bytes) -> Principal | None:
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            row = await connection.fetchrow(FIND, key)
            if row is None:
                return None
            # Once a minute, not with each request of a page that follows a recording.
            if row["to_note"]:
                await connection.execute(NOTE_USE, row["id"])
        return Principal(
            name=row["name"],
            role=row["role"],
            robot_ids=None if row["robot_ids"] is None else frozenset(row["robot_ids"]),
            how="session",
            session_id=row["id"],
            prefix=row["prefix"],
            expires_at=row["expires_at"],
        )

    async def _person(self, name: str) -> Grant | None:
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            row = await connection.fetchrow(PERSON, name)
        if row is None:
            return None
        return Grant(row["role"], None if row["robot_ids"] is None else frozenset(row["robot_ids"]))
