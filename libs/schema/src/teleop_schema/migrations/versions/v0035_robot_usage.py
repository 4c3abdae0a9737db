"""How much each robot's files take, for quotas."""

from teleop_schema.migrations import run_sql

revision = "0035"
down_revision = "0034"

SCHEMA = """
CREATE TABLE robot_usage (
    robot_id   text PRIMARY KEY,
    used_bytes bigint NOT NULL,
    counted_at timestamptz
);
COMMENT ON TABLE robot_usage IS 'what the files and kept versions of each robot take, for its quota';
COMMENT ON COLUMN robot_usage.used_bytes IS
    'as counted, and what was stored since: a file that was there already counts again until the next count';
COMMENT ON COLUMN robot_usage.counted_at IS 'null: it was not counted yet';
"""


def upgrade() -> None:
    run_sql(SCHEMA)


def downgrade() -> None:
    run_sql("DROP TABLE robot_usage")
