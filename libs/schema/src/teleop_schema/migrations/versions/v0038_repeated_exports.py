"""What was asked for an export, beside the sessions that it meant then: so that it can be repeated.

Written by export-service alone.
"""

from collections.abc import Sequence

from teleop_schema.migrations import run_sql

revision = "0038"
down_revision = "0037"

# The names of `GET /episodes`; requests of before have the older ones.
NAMES = """
UPDATE export
   SET request = jsonb_set(request, '{{filter}}', (
       SELECT coalesce(jsonb_object_agg(coalesce(other.now, told.key), told.value), '{{}}')
         FROM jsonb_each(request->'filter') AS told
         LEFT JOIN (VALUES {pairs}) AS other(before, now) ON other.before = told.key
        WHERE told.key NOT IN ('episode_tags', 'tag', 'session_id')))
 WHERE jsonb_typeof(request->'filter') = 'object';
"""
RENAMED = (("from", "since"), ("to", "until"), ("tags", "session_tags"))

ASKED = """
ALTER TABLE export ADD COLUMN asked jsonb;
COMMENT ON COLUMN export.asked IS
    'the request without the sessions that its filter found; null: as `request`, in which they are named';
"""


def upgrade() -> None:
    run_sql(ASKED + _renamed(RENAMED))


def downgrade() -> None:
    run_sql("UPDATE export SET request = request - 'episodes';")
    run_sql(_renamed([(now, before) for before, now in RENAMED]))
    run_sql("ALTER TABLE export DROP COLUMN asked")


def _renamed(pairs: Sequence[tuple[str, str]]) -> str:
    return NAMES.format(pairs=", ".join(map(str, pairs)))
