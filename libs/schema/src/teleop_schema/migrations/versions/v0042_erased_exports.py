"""Which exports were erased with a session, so that their addresses say so."""

from teleop_schema.migrations import run_sql

revision = "0042"
down_revision = "0041"

SCHEMA = """
ALTER TABLE erasure_share ADD COLUMN exports jsonb NOT NULL DEFAULT '{}';
COMMENT ON COLUMN erasure_share.exports IS
    'exports that were erased: the robots of each, by its number; empty for other services';
"""


def upgrade() -> None:
    run_sql(SCHEMA)


def downgrade() -> None:
    run_sql("ALTER TABLE erasure_share DROP COLUMN exports")
