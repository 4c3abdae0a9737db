"""Where an episode ended whose end nobody told: at the pause it was in, if it was in one.

Written by telemetry-service alone.
"""

from teleop_schema.migrations import run_sql

revision = "0028"
down_revision = "0027"

# As it was told, in any order and however often: a pause has ended once one that begins there, or later, is
# among those with an end. Null where there is none, as in archives of before.
SCHEMA = """
ALTER TABLE episode ADD COLUMN paused_from bigint, ADD COLUMN cut_off boolean;
COMMENT ON COLUMN episode.paused_from IS
    'first frame of the latest pause that was told before its end was known; null: none was';
COMMENT ON COLUMN episode.cut_off IS
    'the session was interrupted before the end of the episode was told: it ends with the last frame that '
    'belongs to it as far as was told; null: it was not, or an older release ended it';
"""

# An episode with its tasks, as before.
TASKS = """
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

BEFORE = (
    """
CREATE VIEW episode_overview AS
SELECT session_id, episode_index, start_frame, end_frame, tasks->0->>'task' AS task, outcome, note, tasks"""
    + TASKS
)

# Of an episode that has not ended: paused_from, the frame from which on none belongs to it so far.
OVERVIEW = (
    """
CREATE OR REPLACE VIEW episode_overview AS
SELECT session_id, episode_index, start_frame, end_frame, tasks->0->>'task' AS task, outcome, note, tasks,
       CASE WHEN end_frame IS NULL AND paused_from IS NOT NULL AND NOT EXISTS (
            SELECT FROM episode_pause p
             WHERE p.session_id = told.session_id AND p.episode_index = told.episode_index
               AND p.first_frame >= told.paused_from)
            THEN greatest(paused_from, start_frame) END AS paused_from,
       coalesce(cut_off, false) AS cut_off"""
    + TASKS
)


def upgrade() -> None:
    run_sql(SCHEMA + OVERVIEW)


def downgrade() -> None:
    run_sql("DROP VIEW episode_overview;" + BEFORE)
    run_sql("ALTER TABLE episode DROP COLUMN paused_from, DROP COLUMN cut_off")
