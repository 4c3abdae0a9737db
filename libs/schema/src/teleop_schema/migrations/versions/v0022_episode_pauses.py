"""Frames within episodes that do not belong to them.

Written by telemetry-service alone.
"""

from teleop_schema.migrations import run_sql

revision = "0022"
down_revision = "0021"

SCHEMA = """
CREATE TABLE episode_pause (
    session_id    bigint NOT NULL REFERENCES teleop_session,
    first_frame   bigint NOT NULL,
    end_frame     bigint NOT NULL CHECK (end_frame > first_frame),
    episode_index integer NOT NULL,
    PRIMARY KEY (session_id, first_frame)
);
COMMENT ON TABLE episode_pause IS
    'frames first_frame to end_frame - 1 were recorded while the episode was, but LeRobot''s dataset did not '
    'take them: the rows before and after follow each other';
"""


def upgrade() -> None:
    run_sql(SCHEMA)


def downgrade() -> None:
    run_sql("DROP TABLE episode_pause")
