"""Frames of the plain mode that could not be taken are counted, by field and reason."""

from teleop_schema.migrations import run_sql

revision = "0009"
down_revision = "0008"

SCHEMA = """
CREATE TABLE refused_frames (
    session_id bigint NOT NULL REFERENCES teleop_session,
    number     integer NOT NULL,
    field      text NOT NULL,
    reason     text NOT NULL,
    frames     bigint NOT NULL CHECK (frames > 0),
    PRIMARY KEY (session_id, number)
);
COMMENT ON TABLE refused_frames IS
    'plain messages that could not be understood, in order of first appearance; their frames have no index';
"""


def upgrade() -> None:
    run_sql(SCHEMA)


def downgrade() -> None:
    run_sql("DROP TABLE refused_frames")
