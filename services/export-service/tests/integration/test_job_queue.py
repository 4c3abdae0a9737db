"""The queue's own tables."""

from pathlib import Path

import teleop_schema.migrations.versions
from procrastinate.schema import SchemaManager


def test_migration_holds_the_schema_of_the_installed_queue():
    """When this fails, procrastinate was upgraded: its migrations since then become a migration of ours."""
    folder = Path(teleop_schema.migrations.versions.__file__).parent
    assert (folder / "procrastinate_3_10_0.sql").read_text("utf-8").endswith(SchemaManager.get_schema())


async def test_export_that_never_ends_is_given_up(serve, record, database):
    """After ten attempts it has failed, so that it does not kill one worker after the other for ever."""
    async with serve() as backend:
        export, _ = await backend.export(await record(10))
        await database.connection.execute(
            "UPDATE export SET status = 'queued', numbers = NULL, attempts_left = 0 WHERE id = $1",
            export["id"],
        )
        await database.connection.execute(
            """INSERT INTO procrastinate_jobs (queue_name, task_name, args)
               VALUES ('exports', 'export_service.make_export', jsonb_build_object('export_id', $1::int8))""",
            export["id"],
        )
        ended = await backend.ended(export["id"])
        assert (ended["status"], ended["error"]["code"]) == ("failed", "internal_error")
        assert "gave up" in ended["error"]["detail"]
