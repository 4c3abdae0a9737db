"""Objects that lay in the store unknown to the database: they are kept until an operator says otherwise."""

from teleop_schema.migrations import run_sql

revision = "0012"
down_revision = "0011"

SCHEMA = """
ALTER TABLE stored_object ADD COLUMN found_at timestamptz;
COMMENT ON COLUMN stored_object.found_at IS
    'when it was found in the store, unknown to this database; null: something has referred to it since';
"""


def upgrade() -> None:
    run_sql(SCHEMA)


def downgrade() -> None:
    run_sql("ALTER TABLE stored_object DROP COLUMN found_at")
