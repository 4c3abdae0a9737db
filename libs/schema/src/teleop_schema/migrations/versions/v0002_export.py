"""Exports, and the job queue (procrastinate) that makes them.

Every table here is written by export-service alone.
"""

from pathlib import Path

from teleop_schema.migrations import run_sql

revision = "0002"
down_revision = "0001"

JOB_QUEUE = Path(__file__).with_name("procrastinate_3_10_0.sql")

SCHEMA = """
CREATE TABLE export (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    fingerprint   text NOT NULL UNIQUE,
    request       jsonb NOT NULL,
    work_order    jsonb NOT NULL,
    report        jsonb NOT NULL,
    status        text NOT NULL DEFAULT 'queued'
                  CHECK (status IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    attempt       integer NOT NULL DEFAULT 0,
    attempts_left integer NOT NULL,
    progress      jsonb NOT NULL DEFAULT '{}',
    numbers       jsonb,
    problem       jsonb,
    created_at    timestamptz NOT NULL DEFAULT now(),
    started_at    timestamptz,
    finished_at   timestamptz,
    CHECK ((status = 'failed') = (problem IS NOT NULL)),
    CHECK ((status = 'done') = (numbers IS NOT NULL))
) WITH (fillfactor = 70);
-- What each published dataset holds of each session.
CREATE VIEW session_export AS
SELECT (part->>'session_id')::bigint AS session_id, e.id AS export_id,
       (part->>'exported')::bigint AS frames, e.finished_at
  FROM export e, jsonb_array_elements(e.report->'sessions') AS part
 WHERE e.status = 'done';

COMMENT ON COLUMN export.fingerprint IS
    'SHA-256 of what was asked and of what the sessions hold: the same again is the same export';
COMMENT ON COLUMN export.work_order IS 'what the worker is to make, frame by frame';
COMMENT ON COLUMN export.attempt IS
    'raised by each start; a worker of an older attempt can neither tell progress nor publish';
COMMENT ON COLUMN export.attempts_left IS
    'starts until it counts as failed, so that an export that kills its worker does not do so for ever';
"""


def upgrade() -> None:
    run_sql(JOB_QUEUE.read_text("utf-8"))
    run_sql(SCHEMA)


def downgrade() -> None:
    run_sql("""
        DROP VIEW session_export;
        DROP TABLE export;
        DROP TABLE procrastinate_events, procrastinate_periodic_defers, procrastinate_jobs,
                   procrastinate_workers CASCADE;
        DO $$
        DECLARE
            leftover regprocedure;
        BEGIN
            FOR leftover IN SELECT oid FROM pg_proc WHERE proname LIKE 'procrastinate\\_%'
                               AND pronamespace = current_schema::regnamespace LOOP
                EXECUTE format('DROP FUNCTION %s', leftover);
            END LOOP;
        END $$;
        DROP TYPE procrastinate_job_to_defer_v1, procrastinate_job_event_type, procrastinate_job_status;
    """)
