"""One answer to whether the pictures of a video chunk can be used: the ledger, videos and exports ask it."""

from teleop_schema.migrations import run_sql

revision = "0025"
down_revision = "0024"

SCHEMA = """
CREATE VIEW video_chunk_use AS
SELECT c.id, coalesce(c.quarantine, 'its file on the server is damaged: ' || o.damage) AS unusable
  FROM video_chunk c LEFT JOIN stored_object o USING (sha256);
COMMENT ON COLUMN video_chunk_use.unusable IS
    'why the pictures of the chunk can''t be used; null: they can. A damaged or missing file may come again';
"""


def upgrade() -> None:
    run_sql(SCHEMA)


def downgrade() -> None:
    run_sql("DROP VIEW video_chunk_use")
