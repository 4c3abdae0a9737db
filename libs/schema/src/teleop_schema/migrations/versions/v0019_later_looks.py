"""A video chunk that nobody could look into is looked into later: its quarantine is no verdict."""

from teleop_schema.migrations import run_sql

revision = "0019"
down_revision = "0018"

SCHEMA = """
ALTER TABLE video_chunk ADD COLUMN look_after timestamptz, ADD COLUMN failed_looks integer NOT NULL DEFAULT 0;
CREATE INDEX video_chunk_unlooked ON video_chunk (look_after) WHERE look_after IS NOT NULL;
COMMENT ON COLUMN video_chunk.look_after IS
    'when somebody looks into it again, because no look has come to an end; null: one has';
COMMENT ON COLUMN video_chunk.failed_looks IS 'looks that came to no end';
"""

# Until now a process that somebody killed, or that was given too little time, counted as the file's fault.
RELEASE = """
UPDATE video_chunk SET look_after = now(), quarantine = 'not looked into yet: ' || quarantine
 WHERE quarantine ~ '^(looking into it takes more than|the decoder crashed on it \\((SIGKILL|SIGTERM)\\))';
"""


def upgrade() -> None:
    run_sql(SCHEMA + RELEASE)


def downgrade() -> None:
    run_sql("ALTER TABLE video_chunk DROP COLUMN look_after, DROP COLUMN failed_looks")
