"""Files: stored objects, uploads on their way, video chunks, datasets and their versions.

Every table here is written by video-ingest-service alone.
"""

from teleop_schema.migrations import run_sql

revision = "0003"
down_revision = "0002"

SCHEMA = """
CREATE TABLE stored_object (
    sha256      text PRIMARY KEY CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    size_bytes  bigint NOT NULL CHECK (size_bytes >= 0),
    chunks      bytea,
    stored_at   timestamptz NOT NULL DEFAULT now(),
    verified_at timestamptz,
    damage      text
);
COMMENT ON COLUMN stored_object.chunks IS
    'content-defined chunks as FilePlan.chunks has them, to tell later files'' new bytes from known ones';
CREATE INDEX stored_object_damaged ON stored_object (sha256) WHERE damage IS NOT NULL;
COMMENT ON COLUMN stored_object.damage IS 'what the last look at its bytes found wrong; null: nothing';

CREATE TABLE upload (
    id           uuid PRIMARY KEY,
    file         jsonb,
    metadata     text NOT NULL DEFAULT '',
    length       bigint CHECK (length >= 0),
    plan_key     text,
    base         text,
    copied       jsonb NOT NULL DEFAULT '[]',
    chunks       bytea NOT NULL DEFAULT '',
    problem      jsonb,
    finished_at  timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL
);
CREATE INDEX upload_expiry ON upload (expires_at);
CREATE INDEX upload_plan ON upload (plan_key);
CREATE UNIQUE INDEX upload_open_plan ON upload (plan_key) WHERE finished_at IS NULL AND problem IS NULL;
COMMENT ON COLUMN upload.length IS 'bytes that the client will send; null while it has not said';
COMMENT ON COLUMN upload.file IS 'what the client told of the file; null: it tells it at the end';
COMMENT ON COLUMN upload.plan_key IS 'SHA-256 of the file as planned: the same plan again finds its upload';
COMMENT ON COLUMN upload.base IS 'sha256 of the stored object that holds the bytes that are not sent';
COMMENT ON COLUMN upload.copied IS
    '[[offset in the file, length, offset in the base], …]: the file''s other bytes are the upload''s';
COMMENT ON COLUMN upload.problem IS 'why it was given up; null: it was not';

CREATE TABLE video_chunk (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    session_id        bigint NOT NULL REFERENCES teleop_session,
    camera_key        text NOT NULL,
    chunk_index       bigint NOT NULL CHECK (chunk_index >= 0),
    file_path         text NOT NULL,
    sha256            text NOT NULL REFERENCES stored_object,
    size_bytes        bigint NOT NULL,
    start_timestamp   timestamptz NOT NULL,
    end_timestamp     timestamptz NOT NULL CHECK (end_timestamp >= start_timestamp),
    first_frame_index bigint,
    frame_count       bigint,
    frame_indices     bigint[],
    captured_us       bigint[],
    dropped           jsonb NOT NULL DEFAULT '[]',
    fps               double precision,
    codec             text,
    pix_fmt           text,
    width             integer,
    height            integer,
    keyframes         bigint,
    quarantine        text,
    stored_at         timestamptz NOT NULL DEFAULT now(),
    UNIQUE (session_id, camera_key, chunk_index)
);
CREATE INDEX video_chunk_object ON video_chunk (sha256);
COMMENT ON COLUMN video_chunk.frame_indices IS
    'of each picture in the file, in order: the frame of the session that first saw it';
COMMENT ON COLUMN video_chunk.captured_us IS
    'of each picture: when the camera took it, us since the Unix epoch, the robot''s clock';
COMMENT ON COLUMN video_chunk.quarantine IS 'why it can''t be used as video; null: it can';

CREATE TABLE dataset (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    robot_id   text NOT NULL,
    name       text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (robot_id, name)
);

CREATE TABLE dataset_file (
    dataset_id bigint NOT NULL REFERENCES dataset,
    path       text NOT NULL,
    revision   integer NOT NULL,
    sha256     text NOT NULL REFERENCES stored_object,
    size_bytes bigint NOT NULL,
    stored_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (dataset_id, path, revision)
);
CREATE INDEX dataset_file_object ON dataset_file (sha256);
COMMENT ON TABLE dataset_file IS
    'each content that a path has had; the highest revision is what lies in the tree';

CREATE TABLE dataset_version (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dataset_id      bigint NOT NULL REFERENCES dataset,
    version         integer NOT NULL,
    source          text NOT NULL CHECK (source IN ('robot', 'repair')),
    repaired_from   integer,
    manifest_sha256 text NOT NULL,
    total_episodes  bigint NOT NULL,
    total_frames    bigint NOT NULL,
    finalised       boolean NOT NULL,
    files           integer NOT NULL,
    size_bytes      bigint NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE (dataset_id, version)
);

CREATE TABLE dataset_version_file (
    version_id bigint NOT NULL REFERENCES dataset_version ON DELETE CASCADE,
    path       text NOT NULL,
    sha256     text NOT NULL REFERENCES stored_object,
    size_bytes bigint NOT NULL,
    PRIMARY KEY (version_id, path)
);
CREATE INDEX dataset_version_file_object ON dataset_version_file (sha256);
COMMENT ON COLUMN dataset_version.files IS 'how many there are, size_bytes in all: counted once, for lists';
"""


def upgrade() -> None:
    run_sql(SCHEMA)


def downgrade() -> None:
    run_sql("""
        DROP TABLE dataset_version_file, dataset_version, dataset_file, dataset, video_chunk, upload,
                   stored_object;
    """)
