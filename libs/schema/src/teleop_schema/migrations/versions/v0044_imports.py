"""Imports of backed-up datasets: which became which session, and how far each is.

video-ingest-service writes both tables; telemetry-service, which makes the sessions, notes in them how far it
is and which pictures go with which frames.
"""

from teleop_schema.migrations import run_sql

revision = "0044"
down_revision = "0043"

TABLES = """
ALTER TABLE teleop_session ADD COLUMN imported_from jsonb;
COMMENT ON COLUMN teleop_session.imported_from IS
    'the backed-up dataset that it was made of: {dataset, version, clock}; null: it was recorded here';

CREATE TABLE dataset_import (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dataset_id    bigint NOT NULL REFERENCES dataset ON DELETE CASCADE,
    version       integer NOT NULL,
    session_id    bigint REFERENCES teleop_session ON DELETE CASCADE,
    status        text NOT NULL DEFAULT 'queued'
                  CHECK (status IN ('queued', 'reading', 'storing', 'video', 'done', 'failed')),
    again         boolean NOT NULL DEFAULT false,
    episodes      integer,
    frames        bigint,
    stored_frames bigint NOT NULL DEFAULT 0,
    digests       text[],
    notes         text[] NOT NULL DEFAULT '{}',
    problem       jsonb,
    asked_by      text NOT NULL,
    asked_at      timestamptz NOT NULL DEFAULT now(),
    finished_at   timestamptz,
    UNIQUE (dataset_id, version)
);
COMMENT ON TABLE dataset_import IS 'versions of datasets that become sessions, or were to';
COMMENT ON COLUMN dataset_import.again IS 'also if the same has been imported, or was recorded live';
COMMENT ON COLUMN dataset_import.digests IS 'of each episode, in order: a later version begins with the same';
COMMENT ON COLUMN dataset_import.notes IS 'what the session does not have of the dataset, in words';
CREATE INDEX ON dataset_import (session_id);
CREATE INDEX ON dataset_import (id) WHERE status NOT IN ('done', 'failed');

CREATE TABLE import_video (
    import_id     bigint NOT NULL REFERENCES dataset_import ON DELETE CASCADE,
    camera_key    text NOT NULL,
    chunk_index   bigint NOT NULL,
    sha256        text REFERENCES stored_object,
    size_bytes    bigint,
    fps           double precision NOT NULL,
    depth_unit    text,
    frame_indices bigint[],
    captured_us   bigint[],
    done          boolean NOT NULL DEFAULT false,
    problem       text,
    PRIMARY KEY (import_id, camera_key, chunk_index)
);
COMMENT ON TABLE import_video IS
    'files of datasets that become chunks of their sessions; without a sha256: a chunk that goes';
COMMENT ON COLUMN import_video.problem IS 'why it could not be looked at';
CREATE INDEX ON import_video (sha256);
"""


def upgrade() -> None:
    run_sql(TABLES)


def downgrade() -> None:
    run_sql("""
        DROP TABLE import_video, dataset_import;
        ALTER TABLE teleop_session DROP COLUMN imported_from;
    """)
