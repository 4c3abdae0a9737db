"""Each database has a name of its own, which the store that holds its files notes."""

from teleop_schema.migrations import run_sql

revision = "0007"
down_revision = "0006"

SCHEMA = """
CREATE TABLE installation (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    id       uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO installation DEFAULT VALUES;
COMMENT ON TABLE installation IS 'which database this is, copies and backups of it included';
"""


def upgrade() -> None:
    run_sql(SCHEMA)


def downgrade() -> None:
    run_sql("DROP TABLE installation")
