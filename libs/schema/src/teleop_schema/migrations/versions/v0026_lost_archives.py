"""Copies of archived sessions that the store has lost are marked."""

from teleop_schema.migrations import run_sql

revision = "0026"
down_revision = "0025"

VIEW = """
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
"""
FROM = "  FROM teleop_session s LEFT JOIN session_archive a ON a.session_id = s.id;"

SCHEMA = f"""
ALTER TABLE session_archive ADD COLUMN damage text;
CREATE INDEX session_archive_damaged ON session_archive (session_id) WHERE damage IS NOT NULL;
COMMENT ON COLUMN session_archive.damage IS
    'what is wrong with the frames in the store; null: nothing that anybody knows of';

CREATE OR REPLACE VIEW session_overview AS {VIEW},
       CASE WHEN a.dropped_at IS NOT NULL THEN a.damage END AS archive_damage
{FROM}
"""


def upgrade() -> None:
    run_sql(SCHEMA)


def downgrade() -> None:
    run_sql(f"""
        DROP VIEW session_overview;
        CREATE VIEW session_overview AS {VIEW} {FROM}
        ALTER TABLE session_archive DROP COLUMN damage;
    """)
