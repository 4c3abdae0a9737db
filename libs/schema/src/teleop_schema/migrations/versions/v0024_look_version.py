"""Video is looked into again once a release sees more in it; what was exported with other pictures is known.

Written by video-ingest-service alone.
"""

from teleop_schema.migrations import run_sql

revision = "0024"
down_revision = "0023"

# What a release writes that does not know the column is 1, looked into or not: it is looked into again.
SCHEMA = """
ALTER TABLE video_chunk
    ADD COLUMN look_version integer NOT NULL DEFAULT 1, ADD COLUMN corrected_at timestamptz;
UPDATE video_chunk SET look_version = 0 WHERE look_after IS NOT NULL;
CREATE INDEX video_chunk_look_version ON video_chunk (look_version, id DESC);
CREATE INDEX video_chunk_corrected ON video_chunk (corrected_at) WHERE corrected_at IS NOT NULL;
COMMENT ON COLUMN video_chunk.look_version IS
    'by which version of the look it was looked into; an older one than the service''s is looked into again, '
    '0: no look has come to an end yet';
COMMENT ON COLUMN video_chunk.corrected_at IS
    'when a later look found other pictures in it than an earlier one; null: none has';
"""


def upgrade() -> None:
    run_sql(SCHEMA)


def downgrade() -> None:
    run_sql("ALTER TABLE video_chunk DROP COLUMN look_version, DROP COLUMN corrected_at")
