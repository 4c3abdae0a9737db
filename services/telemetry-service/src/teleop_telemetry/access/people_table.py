"""The one place that writes people, their links and their sessions."""

from collections.abc import Sequence

from msgspec import convert
from teleop_runtime.access.roles import PERSON_ROLES, PersonRole
from teleop_runtime.access.sessions import LASTS_S, LINK_LASTS_S, hash_of_secret, is_secret, make_secret
from teleop_runtime.access.tokens import hash_of, kind_of
from teleop_runtime.postgres.pool import Connection, Pool, connected, transaction
from teleop_schema.errors import PersonNotFound, SignInFailed

from teleop_telemetry.access.people_views import MadeLink, PersonView, SignedIn
from teleop_telemetry.access.token_table import PUT_PRINCIPAL, TIMEOUT_S, check_not_narrowed

# Of one principal; whoever signs in once more ends the session that began first.
MAX_SESSIONS = 50

# Locked, so that of two who change a person's role the second one sees the first.
PRINCIPAL_OF = "SELECT principal_id FROM person WHERE lower(name) = lower($1) FOR UPDATE"

# Names differ in more than upper and lower case, or people would take one for another.
PUT = """
INSERT INTO person (name, principal_id) VALUES ($1, $2)
ON CONFLICT (lower(name)) DO UPDATE SET name = $1, principal_id = $2 RETURNING id
"""

SELECT = """
SELECT person.name, p.role, p.robot_ids, person.created_at,
       (SELECT count(*) FROM web_session s
         WHERE s.principal_id = p.id AND s.ended_at IS NULL AND s.expires_at > now()
           AND s.last_used_at > now() - interval '14 days') AS sessions,
       (SELECT max(s.last_used_at) FROM web_session s WHERE s.principal_id = p.id) AS last_used_at,
       EXISTS (SELECT FROM sign_in_link l
                WHERE l.person_id = person.id AND l.used_at IS NULL AND l.expires_at > now()) AS waiting
  FROM person JOIN principal p ON p.id = person.principal_id
"""
LIST = f"{SELECT} ORDER BY lower(person.name)"

ID_OF = "SELECT id FROM person WHERE lower(name) = lower($1)"

# The newest link counts, so that one that went astray can be made worthless.
FORGET_LINKS = "DELETE FROM sign_in_link WHERE person_id = $1 OR expires_at < now()"

ADD_LINK = """
WITH made AS (
    INSERT INTO sign_in_link (person_id, hash, expires_at) VALUES ($1, $2, now() + make_interval(secs => $3))
    RETURNING person_id, expires_at)
SELECT person.name, p.role, p.robot_ids, made.expires_at
  FROM made JOIN person ON person.id = made.person_id JOIN principal p ON p.id = person.principal_id
"""

# One statement looks and marks, so that a link opened twice signs in once.
USE_LINK = """
UPDATE sign_in_link l SET used_at = now() FROM person
 WHERE l.hash = $1 AND l.used_at IS NULL AND l.expires_at > now() AND person.id = l.person_id
RETURNING person.principal_id, NULL::bigint AS token_id, NULL::timestamptz AS expires_at
"""

TO_SWAP = """
SELECT principal_id, id AS token_id, expires_at FROM access_token
 WHERE hash = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
"""

# Of the two ends, the earlier: LEAST passes over null.
BEGIN = """
WITH made AS (
    INSERT INTO web_session (principal_id, token_id, hash, expires_at)
    VALUES ($1, $2, $3, LEAST($4, now() + make_interval(secs => $5)))
    RETURNING principal_id, expires_at)
SELECT p.name, p.role, p.robot_ids, made.expires_at FROM made JOIN principal p ON p.id = made.principal_id
"""

FORGET_SESSIONS = """
DELETE FROM web_session
 WHERE expires_at < now() - interval '30 days'
    OR id IN (SELECT id FROM web_session WHERE principal_id = $1 ORDER BY id DESC OFFSET $2)
"""

END = "UPDATE web_session SET ended_at = now() WHERE hash = $1 AND ended_at IS NULL RETURNING id"

END_ALL = """
UPDATE web_session SET ended_at = now() WHERE principal_id = ANY($1::bigint[]) AND ended_at IS NULL
"""

REMOVE = "DELETE FROM person WHERE lower(name) = lower($1) RETURNING id"

PRINCIPALS_NAMED = """
SELECT id FROM principal WHERE lower(name) = lower($1) AND role IN ('viewer', 'operator', 'admin')
"""

REVOKE_ALL = """
UPDATE access_token SET revoked_at = now() WHERE principal_id = ANY($1::bigint[]) AND revoked_at IS NULL
"""

FAILED = "the link or token is wrong, was used or revoked, or has expired"


class PeopleTable:
    """Writes `person`, `sign_in_link` and `web_session`, and ends the tokens of who is removed."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add(
        self, name: str, role: PersonRole, robot_ids: Sequence[str] | None, *, widens: bool
    ) -> tuple[MadeLink, str]:
        """A person who may sign in, what the link is for, and the code for it.

        Of somebody who is there already, role and robots are as said now; another role ends the sessions.

        widens  whether somebody who is for some robots only may become somebody for all; else, BadInput
        """
        async with transaction(self._pool, timeout_s=TIMEOUT_S) as connection:
            if robot_ids is None and not widens:
                await check_not_narrowed(connection, name, PERSON_ROLES)
            before = await connection.fetchval(PRINCIPAL_OF, name)
            principal_id = await connection.fetchval(PUT_PRINCIPAL, name, role, robot_ids)
            person_id = await connection.fetchval(PUT, name, principal_id)
            # Otherwise a page that is open goes on with what the person may no longer do.
            if before not in (None, principal_id):
                await connection.execute(END_ALL, [before])
            return await _link(connection, person_id)

    async def link(self, name: str) -> tuple[MadeLink, str]:
        """What a new link is for, and the code for it; raises PersonNotFound."""
        async with transaction(self._pool, timeout_s=TIMEOUT_S) as connection:
            person_id = await connection.fetchval(ID_OF, name)
            if person_id is None:
                raise _unknown(name)
            return await _link(connection, person_id)

    async def people(self) -> list[PersonView]:
        """Whoever may sign in by a link, by name."""
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            return [convert(dict(row), PersonView) for row in await connection.fetch(LIST)]

    async def remove(self, name: str) -> None:
        """End whatever lets a person in: links, sessions and tokens of the name; raises PersonNotFound."""
        async with transaction(self._pool, timeout_s=TIMEOUT_S) as connection:
            if await connection.fetchval(REMOVE, name) is None:
                raise _unknown(name)
            principals = [row["id"] for row in await connection.fetch(PRINCIPALS_NAMED, name)]
            await connection.execute(END_ALL, principals)
            await connection.execute(REVOKE_ALL, principals)

    async def sign_in(self, code: str) -> tuple[SignedIn, str]:
        """Who has signed in with a link's code or a token, and the new session's id; raises SignInFailed."""
        is_token = kind_of(code) is not None
        if not is_token and not is_secret(code):
            raise SignInFailed(FAILED, field="code")
        session = make_secret()
        async with transaction(self._pool, timeout_s=TIMEOUT_S) as connection:
            if is_token:
                shown = await connection.fetchrow(TO_SWAP, hash_of(code))
            else:
                shown = await connection.fetchrow(USE_LINK, hash_of_secret(code))
            if shown is None:
                raise SignInFailed(FAILED, field="code", hint="ask for a new link: people link <name>")
            principal_id = shown["principal_id"]
            begun = await connection.fetchrow(
                BEGIN, principal_id, shown["token_id"], hash_of_secret(session), shown["expires_at"], LASTS_S
            )
            await connection.execute(FORGET_SESSIONS, principal_id, MAX_SESSIONS)
        assert begun is not None  # noqa: S101
        return convert(dict(begun), SignedIn), session

    async def sign_out(self, session: str) -> bool:
        """Whether it was a session that had not ended; now it has."""
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            return await connection.fetchval(END, hash_of_secret(session)) is not None


async def _link(connection: Connection, person_id: int) -> tuple[MadeLink, str]:
    code = make_secret()
    await connection.execute(FORGET_LINKS, person_id)
    row = await connection.fetchrow(ADD_LINK, person_id, hash_of_secret(code), LINK_LASTS_S)
    assert row is not None  # noqa: S101
    return convert(dict(row), MadeLink), code


def _unknown(name: str) -> PersonNotFound:
    return PersonNotFound(f"there is no person {name[:100]!r}", field="person")
