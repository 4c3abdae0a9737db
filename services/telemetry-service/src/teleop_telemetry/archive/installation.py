"""What people told of the installation, not of a session: in the archive, for a database that is made again.

The database is the truth: a change is complete with its commit, which counts it (`installation.edits`).
"""

from teleop_runtime.postgres.pool import Connection, Pool, transaction
from teleop_runtime.store import Store
from teleop_schema.errors import StorageUnavailable

from teleop_telemetry.archive.session_files import is_here

# The name of the note.
INSTALLATION = "installation/told"
# The note is written to the store meanwhile.
TIMEOUT_S = 60.0

# The row is locked, so that what was read last is written last.
UNNOTED = "SELECT edits FROM installation WHERE edits <> noted_edits FOR NO KEY UPDATE"
TOLD = """
SELECT jsonb_build_object(
           'outcome_reasons', (SELECT coalesce(jsonb_agg(to_jsonb(r) ORDER BY r.name), '[]')
                                 FROM outcome_reason r))::text
"""
NOTED = "UPDATE installation SET noted_edits = $1"

# All of it: what was taken out does not come back with what a new database begins with.
FORGET = "DELETE FROM outcome_reason"
TAKE_OVER = """
INSERT INTO outcome_reason
SELECT * FROM jsonb_populate_recordset(NULL::outcome_reason, $1::jsonb->'outcome_reasons')
"""


async def note_installation(pool: Pool, store: Store) -> None:
    """Write what the archive lacks; raises StorageUnavailable."""
    async with transaction(pool, timeout_s=TIMEOUT_S) as connection:
        edits = await connection.fetchval(UNNOTED)
        if edits is None or not await is_here(connection, store):
            return
        told = await connection.fetchval(TOLD)
        try:
            await store.set_note(INSTALLATION, told.encode())
        except OSError as error:
            raise StorageUnavailable(f"the file store can't be written: {error}") from error
        await connection.execute(NOTED, edits)


async def take_over(connection: Connection, told: bytes) -> None:
    """Put what a lost database had in place of what this one has; `told` is its note."""
    async with connection.transaction():
        await connection.execute(FORGET)
        await connection.execute(TAKE_OVER, told.decode())
