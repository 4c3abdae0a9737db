"""Which robots two computers have recorded as at the same time."""

from teleop_schema.migrations import run_sql

revision = "0043"
down_revision = "0042"

SCHEMA = """
ALTER TABLE robot ADD COLUMN clashing_sessions bigint[], ADD COLUMN clashed_at timestamptz;
COMMENT ON COLUMN robot.clashing_sessions IS
    'sessions that were recorded at the same time under this name, by two computers; null: none were';
COMMENT ON COLUMN robot.clashed_at IS 'when they last were';
"""


def upgrade() -> None:
    run_sql(SCHEMA)


def downgrade() -> None:
    run_sql("ALTER TABLE robot DROP COLUMN clashing_sessions, DROP COLUMN clashed_at")
