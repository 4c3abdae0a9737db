"""Sessions and video chunks are noted in the store, so that they outlive the database."""

from teleop_schema.migrations import run_sql

revision = "0015"
down_revision = "0014"

SCHEMA = """
ALTER TABLE teleop_session ADD COLUMN noted_at timestamptz, ADD COLUMN found_at timestamptz;
CREATE INDEX teleop_session_unnoted ON teleop_session (id) WHERE noted_at IS NULL;
COMMENT ON COLUMN teleop_session.noted_at IS
    'when the store was told of it, for a database that is made anew; null: not yet';
COMMENT ON COLUMN teleop_session.found_at IS
    'when this database learned of it from the store alone: its frames are those that came since; '
    'null: it was recorded here';

ALTER TABLE video_chunk ADD COLUMN noted_at timestamptz;
CREATE INDEX video_chunk_unnoted ON video_chunk (id) WHERE noted_at IS NULL;
COMMENT ON COLUMN video_chunk.noted_at IS
    'when the store was told of it, for a database that is made anew; null: not yet';

-- What a session that was found once had counts among its frames: they are not accounted for until its robot
-- brings them, or somebody gives them up. Columns that come later go to the end: older services read on.
CREATE OR REPLACE VIEW session_overview AS
SELECT s.id, s.stream_id, s.robot_id, s.robot_type, s.start_time, s.end_time, s.fps, s.task, s.state_names,
       s.action_names, s.cameras, s.host, s.delivery, s.status, s.next_frame_index, s.logged_frames, s.epoch,
       s.last_frame_time, s.last_commit_at, s.tags, s.note, s.deleted_at,
       greatest(s.next_frame_index, CASE WHEN s.found_at IS NOT NULL THEN s.logged_frames END) AS frames,
       s.logged_frames AS logged,
       (SELECT coalesce(sum(g.end_frame - g.first_frame), 0)::bigint
          FROM frame_gap g WHERE g.session_id = s.id) AS missing,
       (SELECT count(*) FROM episode e WHERE e.session_id = s.id) AS episodes,
       a.dropped_at AS archived_at, s.found_at
  FROM teleop_session s LEFT JOIN session_archive a ON a.session_id = s.id;
"""


def upgrade() -> None:
    run_sql(SCHEMA)


def downgrade() -> None:
    run_sql("""
        DROP VIEW session_overview;
        ALTER TABLE video_chunk DROP COLUMN noted_at;
        ALTER TABLE teleop_session DROP COLUMN noted_at, DROP COLUMN found_at;
        CREATE VIEW session_overview AS
        SELECT s.*, s.next_frame_index AS frames, s.logged_frames AS logged,
               (SELECT coalesce(sum(g.end_frame - g.first_frame), 0)::bigint
                  FROM frame_gap g WHERE g.session_id = s.id) AS missing,
               (SELECT count(*) FROM episode e WHERE e.session_id = s.id) AS episodes,
               a.dropped_at AS archived_at
          FROM teleop_session s LEFT JOIN session_archive a ON a.session_id = s.id;
    """)
