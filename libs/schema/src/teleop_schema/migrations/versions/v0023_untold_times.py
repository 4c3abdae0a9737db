"""How many frames of a session came without a time of their own."""

from teleop_schema.migrations import run_sql

revision = "0023"
down_revision = "0022"

# Null for what older services wrote, and go on writing: nobody counted it then. Where it is known all the
# same, for a robot of the acknowledged mode tells each frame's time, the view knows it.
SCHEMA = """
ALTER TABLE teleop_session ADD COLUMN untold_times bigint;
COMMENT ON COLUMN teleop_session.untold_times IS
    'stored frames that came without a time: theirs is that of their arrival; null: nobody counted';

CREATE OR REPLACE VIEW session_overview AS
SELECT s.id, s.stream_id, s.robot_id, s.robot_type, s.start_time, s.end_time, s.fps, s.task, s.state_names,
       s.action_names, s.cameras, s.host, s.delivery, s.status, s.next_frame_index, s.logged_frames, s.epoch,
       s.last_frame_time, s.last_commit_at, s.tags, s.note, s.deleted_at,
       greatest(s.next_frame_index, CASE WHEN s.found_at IS NOT NULL THEN s.logged_frames END) AS frames,
       s.logged_frames AS logged,
       (SELECT coalesce(sum(g.end_frame - g.first_frame), 0)::bigint
          FROM frame_gap g WHERE g.session_id = s.id) AS missing,
       (SELECT count(*) FROM episode e WHERE e.session_id = s.id) AS episodes,
       a.dropped_at AS archived_at, s.found_at,
       CASE WHEN s.delivery = 'acknowledged' THEN 0 ELSE s.untold_times END AS untold_times
  FROM teleop_session s LEFT JOIN session_archive a ON a.session_id = s.id;
"""


def upgrade() -> None:
    run_sql(SCHEMA)


def downgrade() -> None:
    run_sql("""
        DROP VIEW session_overview;
        CREATE VIEW session_overview AS
        SELECT s.id, s.stream_id, s.robot_id, s.robot_type, s.start_time, s.end_time, s.fps, s.task,
               s.state_names, s.action_names, s.cameras, s.host, s.delivery, s.status, s.next_frame_index,
               s.logged_frames, s.epoch, s.last_frame_time, s.last_commit_at, s.tags, s.note, s.deleted_at,
               greatest(s.next_frame_index, CASE WHEN s.found_at IS NOT NULL THEN s.logged_frames END)
                   AS frames,
               s.logged_frames AS logged,
               (SELECT coalesce(sum(g.end_frame - g.first_frame), 0)::bigint
                  FROM frame_gap g WHERE g.session_id = s.id) AS missing,
               (SELECT count(*) FROM episode e WHERE e.session_id = s.id) AS episodes,
               a.dropped_at AS archived_at, s.found_at
          FROM teleop_session s LEFT JOIN session_archive a ON a.session_id = s.id;
        ALTER TABLE teleop_session DROP COLUMN untold_times;
    """)
