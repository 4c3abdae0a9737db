"""A quota of its own for a robot, and a count of what every robot's files take."""

from teleop_schema.migrations import run_sql

revision = "0036"
down_revision = "0035"

# Robots that have sent nothing since 0035 have no row yet, and would not be counted.
SCHEMA = """
CREATE TABLE robot_quota (
    robot_id    text PRIMARY KEY,
    limit_bytes bigint NOT NULL CHECK (limit_bytes > 0),
    set_at      timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE robot_quota IS
    'what the files of a robot may take, where that is not what the setting says of all';
INSERT INTO robot_usage (robot_id, used_bytes)
SELECT robot_id, 0 FROM dataset UNION SELECT robot_id, 0 FROM teleop_session
ON CONFLICT DO NOTHING;
"""


def upgrade() -> None:
    run_sql(SCHEMA)


def downgrade() -> None:
    run_sql("DROP TABLE robot_quota")
