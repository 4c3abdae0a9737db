"""Episodes in which the task changes."""

from teleop_schema.migrations import run_sql

revision = "0020"
down_revision = "0019"

# By the frames that the robot told, so that telling one again changes nothing. Null where there is none, as
# in archives of before.
SCHEMA = """
ALTER TABLE episode ADD COLUMN later_tasks jsonb;
COMMENT ON COLUMN episode.later_tasks IS
    'frame -> the task from there on, after the one that the episode began with; null: it has no other';

-- An episode within its bounds: tasks as [{"first_frame": 0, "task": "open the drawer"}, ...], never empty,
-- and the first of them.
CREATE VIEW episode_overview AS
SELECT session_id, episode_index, start_frame, end_frame, tasks->0->>'task' AS task, outcome, note, tasks
  FROM (
       SELECT e.*, CASE WHEN e.later_tasks IS NULL
              THEN jsonb_build_array(jsonb_build_object('first_frame', e.start_frame, 'task', e.task))
              ELSE (
              SELECT jsonb_agg(jsonb_build_object('first_frame', first_frame, 'task', task)
                               ORDER BY first_frame)
                FROM (SELECT greatest(first_frame, e.start_frame) AS first_frame, task,
                             row_number() OVER told = 1
                             OR task IS DISTINCT FROM lag(task) OVER told AS other
                        FROM (SELECT first_frame, task,
                                     lead(first_frame) OVER (ORDER BY first_frame) AS next_frame
                                FROM (SELECT -1::bigint AS first_frame, e.task
                                       UNION ALL
                                      SELECT key::bigint, value #>> '{}'
                                        FROM jsonb_each(e.later_tasks)) AS each) AS spans
                       WHERE (next_frame IS NULL OR next_frame > e.start_frame)
                         AND (e.end_frame IS NULL OR first_frame < e.end_frame)
                      WINDOW told AS (ORDER BY first_frame)) AS within
               WHERE other) END AS tasks
         FROM episode e) AS told;
"""


def upgrade() -> None:
    run_sql(SCHEMA)


def downgrade() -> None:
    run_sql("""
        DROP VIEW episode_overview;
        ALTER TABLE episode DROP COLUMN later_tasks;
    """)
