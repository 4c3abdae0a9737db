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
        WHERE told.key NOT IN ({left_out})))
 WHERE jsonb_typeof(request->'filter') = 'object';
"""
RENAMED = (("from", "since"), ("to", "until"), ("tags", "session_tags"))

# Of several tags the first: a filter has one now.
TAG = """
UPDATE export
   SET request = jsonb_set(request, '{filter,tag}', request->'filter'->'episode_tags'->0)
 WHERE jsonb_array_length(request->'filter'->'episode_tags') > 0;
"""

ASKED = """
ALTER TABLE export ADD COLUMN asked jsonb;
COMMENT ON COLUMN export.asked IS
    'the request without the sessions that its filter found; null: as `request`, in which they are named';
"""


def upgrade() -> None:
    run_sql(ASKED + TAG + renamed(RENAMED))


def downgrade() -> None:
    run_sql("UPDATE export SET request = request - 'episodes';")
    run_sql(renamed([(now, before) for before, now in RENAMED], "'tag', 'session_id'"))
    run_sql("ALTER TABLE export DROP COLUMN asked")


def renamed(pairs: Sequence[tuple[str, str]], left_out: str = "'episode_tags'") -> str:
    """The statement that gives parts of filters other names, and leaves some out."""
    return NAMES.format(pairs=", ".join(map(str, pairs)), left_out=left_out)
