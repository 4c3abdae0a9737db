"""An export that can't be made now says why: it waits."""

from teleop_schema.migrations import run_sql

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    run_sql("""
        ALTER TABLE export ADD COLUMN waits_for jsonb;
        COMMENT ON COLUMN export.waits_for IS
            'what keeps a queued export from being made, though it is its turn; null: nothing does';
    """)


def downgrade() -> None:
    run_sql("ALTER TABLE export DROP COLUMN waits_for")
