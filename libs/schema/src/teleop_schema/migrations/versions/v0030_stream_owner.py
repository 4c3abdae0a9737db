"""Who may go on with a stream: whoever knows the secret that its writer made.

Written by telemetry-service alone.
"""

from teleop_schema.migrations import run_sql

revision = "0030"
down_revision = "0029"

SCHEMA = """
ALTER TABLE teleop_session ADD COLUMN secret_sha256 bytea CHECK (octet_length(secret_sha256) = 32);
COMMENT ON COLUMN teleop_session.secret_sha256 IS
    'SHA-256 of the secret of the stream''s writer; null: it has sent none';
"""


def upgrade() -> None:
    run_sql(SCHEMA)


def downgrade() -> None:
    run_sql("ALTER TABLE teleop_session DROP COLUMN secret_sha256")
