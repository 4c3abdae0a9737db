"""Uploads that are not finished are found without looking at those that are."""

from teleop_schema.migrations import run_sql

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    run_sql("CREATE INDEX upload_open ON upload (expires_at) WHERE finished_at IS NULL AND problem IS NULL")


def downgrade() -> None:
    run_sql("DROP INDEX upload_open")
