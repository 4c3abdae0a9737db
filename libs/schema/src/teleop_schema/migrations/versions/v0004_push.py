"""Pushes of finished exports to the Hugging Face Hub.

Written by export-service alone.
"""

from teleop_schema.migrations import run_sql

revision = "0004"
down_revision = "0003"

SCHEMA = """
CREATE TABLE export_push (
    export_id     bigint PRIMARY KEY REFERENCES export ON DELETE CASCADE,
    private       boolean NOT NULL,
    overwrite     boolean NOT NULL,
    token_name    text,
    status        text NOT NULL DEFAULT 'waiting'
                  CHECK (status IN ('waiting', 'queued', 'running', 'done', 'failed')),
    attempt       integer NOT NULL DEFAULT 0,
    attempts_left integer NOT NULL,
    done_bytes    bigint NOT NULL DEFAULT 0,
    total_bytes   bigint NOT NULL DEFAULT 0,
    problem       jsonb,
    commit_url    text,
    asked_at      timestamptz NOT NULL DEFAULT now(),
    started_at    timestamptz,
    finished_at   timestamptz,
    CHECK ((status = 'done') = (commit_url IS NOT NULL)),
    CHECK (status <> 'failed' OR problem IS NOT NULL)
) WITH (fillfactor = 70);
COMMENT ON COLUMN export_push.status IS 'waiting: until the export itself is done';
COMMENT ON COLUMN export_push.token_name IS 'which of the worker''s tokens to use; null: its own';
COMMENT ON COLUMN export_push.problem IS 'why it failed, or why the last attempt did not succeed';
"""


def upgrade() -> None:
    run_sql(SCHEMA)


def downgrade() -> None:
    run_sql("DROP TABLE export_push;")
