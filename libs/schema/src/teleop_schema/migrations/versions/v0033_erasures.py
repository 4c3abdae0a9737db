"""What was erased for good, by whom, and how far each service is with it.

A row of `erasure` is written by telemetry-service, and stays: what it names is never taken again. Of
`erasure_share`, each service writes the rows that have its name.
"""

from teleop_schema.migrations import run_sql

revision = "0033"
down_revision = "0032"

SCHEMA = """
CREATE TABLE erasure (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    session_id bigint,
    stream_id  uuid UNIQUE,
    robot_id   text NOT NULL,
    dataset    text,
    asked_by   text NOT NULL,
    asked_at   timestamptz NOT NULL DEFAULT now(),
    noted_at   timestamptz,
    UNIQUE (robot_id, dataset),
    CHECK ((session_id IS NULL) = (stream_id IS NULL)),
    CHECK ((session_id IS NULL) <> (dataset IS NULL))
);
CREATE INDEX erasure_session ON erasure (session_id);
CREATE INDEX erasure_unnoted ON erasure (id) WHERE noted_at IS NULL;
COMMENT ON TABLE erasure IS
    'sessions and backups of datasets that an admin has erased; what comes of them again is refused';
COMMENT ON COLUMN erasure.noted_at IS
    'when the store was told of it, for a new or restored database; null: not yet';

CREATE TABLE erasure_share (
    erasure_id  bigint NOT NULL REFERENCES erasure,
    service     text NOT NULL
                CHECK (service IN ('export-service', 'video-ingest-service', 'telemetry-service')),
    removed     jsonb NOT NULL DEFAULT '{}',
    pending     text[] NOT NULL DEFAULT '{}',
    not_reached text[] NOT NULL DEFAULT '{}',
    problem     text,
    done_at     timestamptz,
    PRIMARY KEY (erasure_id, service)
);
CREATE INDEX erasure_share_open ON erasure_share (service, erasure_id) WHERE done_at IS NULL;
COMMENT ON TABLE erasure_share IS 'how far a service is with its part of an erasure';
COMMENT ON COLUMN erasure_share.removed IS 'how many of what were removed so far';
COMMENT ON COLUMN erasure_share.pending IS
    'what is to be removed although no row refers to it any more: objects by SHA-256, exports by number';
COMMENT ON COLUMN erasure_share.not_reached IS 'copies that the service knows of and can''t remove';
COMMENT ON COLUMN erasure_share.problem IS 'why it could not go on when it last tried; null: it could';

CREATE FUNCTION drop_session_view(session bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT SET lock_timeout = '5s' AS $$
BEGIN
    EXECUTE format('DROP VIEW IF EXISTS %I', format('session_%s', session));
END $$;
COMMENT ON FUNCTION drop_session_view IS 'drops what make_session_view has made, if it has';
REVOKE EXECUTE ON FUNCTION drop_session_view FROM PUBLIC;
"""


def upgrade() -> None:
    run_sql(SCHEMA)


def downgrade() -> None:
    run_sql("DROP FUNCTION drop_session_view; DROP TABLE erasure_share, erasure")
