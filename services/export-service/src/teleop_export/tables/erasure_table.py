"""Exports of sessions that are erased."""

from collections.abc import Awaitable, Callable, Sequence

from psycopg.rows import DictRow
from teleop_runtime.postgres.erasing import HOLD_EXPORTS
from teleop_schema.errors import SessionNotFound

from teleop_export.tables.database import Connection, PsycopgPool, connect

# Exports that have, or are to have, frames of a session, and what is known of copies of them.
EXPORTS_OF = """
SELECT e.id, e.fingerprint, e.status, e.request->>'repo_id' AS repo_id, p.status AS push, p.commit_url
  FROM export e LEFT JOIN export_push p ON p.export_id = e.id
 WHERE e.report->'sessions' @> jsonb_build_array(jsonb_build_object('session_id', %(session_id)s::bigint))
    OR e.request->'session_ids' @> to_jsonb(%(session_id)s::bigint)
 ORDER BY e.id LIMIT 1 FOR UPDATE OF e
"""

NOTE_ERASED = """
UPDATE erasure_share
   SET removed = jsonb_set(removed, '{exports}', to_jsonb(coalesce((removed->>'exports')::bigint, 0) + 1)),
       pending = pending || %s::text, not_reached = not_reached || %s::text[]
 WHERE erasure_id = %s AND service = 'export-service'
"""

# Whoever puts an export holds off erasures, and so is seen by them, or sees them.
ERASED = "SELECT session_id FROM erasure WHERE session_id = ANY(%s) ORDER BY session_id"

FORGET = "DELETE FROM export WHERE id = %s"

FORGET_PUSH = "DELETE FROM export_push WHERE export_id = %s"


async def hold_off_erasures(connection: Connection, session_ids: Sequence[int]) -> None:
    """Raise SessionNotFound for sessions that are erased; others are not until the transaction ends."""
    await connection.execute(HOLD_EXPORTS)
    erased = await (await connection.execute(ERASED, [list(session_ids)])).fetchall()
    if erased:
        raise SessionNotFound.of(*(row["session_id"] for row in erased), field="session_ids")


async def erase_one(
    pool: PsycopgPool, session_id: int, erasure_id: int, remove: Callable[[int, str], Awaitable[None]]
) -> bool:
    """Forget one export with frames of the session, whatever its state; False if there is none.

    remove  takes its published files (id, fingerprint) away first, for good
    """
    async with connect(pool) as connection, connection.transaction():
        row = await (await connection.execute(EXPORTS_OF, {"session_id": session_id})).fetchone()
        if row is None:
            return False
        await remove(row["id"], row["fingerprint"])
        await connection.execute(FORGET_PUSH, [row["id"]])
        await connection.execute(FORGET, [row["id"]])
        await connection.execute(NOTE_ERASED, [str(row["id"]), _copies(row), erasure_id])
    return True


def _copies(row: DictRow) -> list[str]:
    """Copies of an export that nobody here can remove."""
    copies = []
    if row["status"] == "done":
        copies.append(f"downloads of export {row['id']} ({row['repo_id']}): whoever fetched it has it")
    if row["commit_url"]:
        copies.append(f"the Hugging Face Hub: {row['commit_url']}: delete it, and its history, there")
    elif row["push"] in ("running", "queued", "failed"):
        copies.append(f"the Hugging Face Hub: files of {row['repo_id']}, if its push had begun: look there")
    return copies
