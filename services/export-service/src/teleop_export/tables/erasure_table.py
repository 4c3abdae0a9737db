"""Exports of sessions that are erased."""

from collections.abc import Awaitable, Callable, Sequence

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb
from teleop_runtime.postgres.erasing import HOLD_EXPORTS, told_erased
from teleop_schema.errors import SessionErased
from teleop_schema.identifiers import MAX_ID

from teleop_export.errors import ExportErased, ExportNotFound
from teleop_export.tables.database import Connection, PsycopgPool, connect

# Exports that have, or are to have, frames of a session, and what is known of copies of them.
EXPORTS_OF = """
SELECT e.id, e.fingerprint, e.status, e.request->>'repo_id' AS repo_id, p.status AS push, p.commit_url,
       ARRAY(SELECT DISTINCT robot_id FROM teleop_session
              WHERE id IN (SELECT jsonb_array_elements_text(e.request->'session_ids')::bigint)) AS robots
  FROM export e LEFT JOIN export_push p ON p.export_id = e.id
 WHERE e.report->'sessions' @> jsonb_build_array(jsonb_build_object('session_id', %(session_id)s::bigint))
    OR e.request->'session_ids' @> to_jsonb(%(session_id)s::bigint)
 ORDER BY e.id LIMIT 1 FOR UPDATE OF e
"""

NOTE_ERASED = """
UPDATE erasure_share
   SET removed = jsonb_set(removed, '{exports}', to_jsonb(coalesce((removed->>'exports')::bigint, 0) + 1)),
       pending = pending || %s::text, not_reached = not_reached || %s::text[],
       exports = exports || %s
 WHERE erasure_id = %s AND service = 'export-service'
"""

WHY_LACKING = """
SELECT e.session_id, e.asked_by, e.asked_at
  FROM erasure_share s JOIN erasure e ON e.id = s.erasure_id WHERE s.exports ? %s::text
"""

# Whoever puts an export holds off erasures, and so is seen by them, or sees them.
ERASED = """
SELECT session_id, asked_by, asked_at FROM erasure e
 WHERE session_id = ANY(%s)
   AND NOT EXISTS (SELECT FROM teleop_session s WHERE s.id = e.session_id AND s.stream_id <> e.stream_id)
 ORDER BY session_id
"""

FORGET = "DELETE FROM export WHERE id = %s"

FORGET_PUSH = "DELETE FROM export_push WHERE export_id = %s"


async def hold_off_erasures(connection: Connection, session_ids: Sequence[int]) -> None:
    """Raise SessionErased for sessions that are erased; others are not until the transaction ends."""
    await connection.execute(HOLD_EXPORTS)
    await check_erased(connection, session_ids)


async def check_erased(connection: Connection, session_ids: Sequence[int]) -> None:
    """Raise SessionErased for the first of the sessions that is erased."""
    possible = [each for each in session_ids if each <= MAX_ID]
    row = await (await connection.execute(ERASED, [possible])).fetchone()
    if row is not None:
        told = told_erased(row["asked_by"], row["asked_at"])
        raise SessionErased(f"session {row['session_id']} {told}", field="session_ids")


async def lacking_export(connection: Connection, export_id: int) -> ExportErased | ExportNotFound:
    """Why there is no export with that number: it was erased, or never was."""
    row = await (await connection.execute(WHY_LACKING, [export_id])).fetchone()
    if row is None:
        return ExportNotFound.of(export_id)
    told = told_erased(row["asked_by"], row["asked_at"])
    return ExportErased(
        f"export {export_id} had frames of session {row['session_id']}, which {told}",
        field="export_id",
        hint="ask for an export of the other sessions",
    )


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
        robots = Jsonb({str(row["id"]): row["robots"]})
        await connection.execute(NOTE_ERASED, [str(row["id"]), _copies(row), robots, erasure_id])
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
