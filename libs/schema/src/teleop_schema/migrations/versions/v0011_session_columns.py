"""Columns that a command records beyond state and action.

Every table here is written by telemetry-service alone.
"""

from teleop_schema.migrations import run_sql

revision = "0011"
down_revision = "0010"

SCHEMA = """
CREATE TABLE session_column (
    session_id bigint NOT NULL REFERENCES teleop_session,
    position   integer NOT NULL,
    name       text NOT NULL,
    dtype      text NOT NULL,
    shape      integer[] NOT NULL,
    names      jsonb,
    PRIMARY KEY (session_id, position)
);
COMMENT ON TABLE session_column IS
    'columns that frames of a session have beyond state and action; dtype and shape as in a LeRobot dataset';

ALTER TABLE teleop_frame ADD COLUMN columns bytea;
COMMENT ON COLUMN teleop_frame.columns IS
    'values of the session''s columns, packed: u8 n, n bytes bitmap of positions, then the values one after '
    'the other, in C order and little-endian';
"""


def upgrade() -> None:
    run_sql(SCHEMA)


def downgrade() -> None:
    run_sql("""
        ALTER TABLE teleop_frame DROP COLUMN columns;
        DROP TABLE session_column;
    """)
