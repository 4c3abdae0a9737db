"""Versions of a dataset know which recording they are states of: a name may have had several."""

from teleop_schema.migrations import run_sql

revision = "0017"
down_revision = "0016"

SCHEMA = """
ALTER TABLE dataset_version ADD COLUMN recording_begun timestamptz;
COMMENT ON COLUMN dataset_version.recording_begun IS
    'of a state that is not finalised: when the first version of its recording was made, later ones of which '
    'hold all that earlier ones do; null: not looked at yet';

-- Only the newest of each dataset had a note that stays: now each has one of its own.
UPDATE dataset_version SET noted_at = NULL WHERE source = 'robot' AND NOT finalised;
"""


def upgrade() -> None:
    run_sql(SCHEMA)


def downgrade() -> None:
    run_sql("ALTER TABLE dataset_version DROP COLUMN recording_begun")
