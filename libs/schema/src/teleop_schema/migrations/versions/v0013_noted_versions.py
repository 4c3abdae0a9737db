"""Versions of datasets are noted in the store, so that they outlive the database."""

from teleop_schema.migrations import run_sql

revision = "0013"
down_revision = "0012"

SCHEMA = """
ALTER TABLE dataset_version ADD COLUMN noted_at timestamptz;
CREATE INDEX dataset_version_unnoted ON dataset_version (id) WHERE noted_at IS NULL;
COMMENT ON COLUMN dataset_version.noted_at IS
    'when the store was told of it, for a database that is made anew; null: not yet';
"""


def upgrade() -> None:
    run_sql(SCHEMA)


def downgrade() -> None:
    run_sql("ALTER TABLE dataset_version DROP COLUMN noted_at")
