"""What people judge of an episode, who drove, and every change with who made it.

Written by telemetry-service alone.
"""

from teleop_schema.migrations import run_sql

revision = "0037"
down_revision = "0036"

# Null where archives of before have nothing.
COLUMNS = """
ALTER TABLE teleop_session ADD COLUMN operator text;
COMMENT ON COLUMN teleop_session.operator IS 'who drove the robot; null: nobody has said';

ALTER TABLE episode ADD COLUMN operator text,
                    ADD COLUMN reason text,
                    ADD COLUMN quality smallint CHECK (quality BETWEEN 1 AND 5),
                    ADD COLUMN tags text[];
COMMENT ON COLUMN episode.operator IS 'who drove, where it was not the operator of the session';
COMMENT ON COLUMN episode.reason IS 'of the outcome: a name that outcome_reason had when it was chosen';
COMMENT ON COLUMN episode.quality IS '1 (poor) to 5 (as it should be)';
"""

HISTORY = """
CREATE TABLE episode_change (
    session_id    bigint NOT NULL,
    episode_index integer NOT NULL,
    revision      integer NOT NULL CHECK (revision > 0),
    changed_at    timestamptz NOT NULL DEFAULT now(),
    changed_by    text NOT NULL,
    before        jsonb NOT NULL,
    after         jsonb NOT NULL,
    undoes        integer,
    PRIMARY KEY (session_id, episode_index, revision),
    FOREIGN KEY (session_id, episode_index) REFERENCES episode
);
COMMENT ON TABLE episode_change IS
    'what people changed of an episode, one after the other; what robots tell of it is not here';
COMMENT ON COLUMN episode_change.before IS 'columns of the episode that were changed, with what they held';
COMMENT ON COLUMN episode_change.after IS 'the same columns, with what they hold since';
COMMENT ON COLUMN episode_change.undoes IS 'the change that this one takes back';

CREATE TABLE outcome_reason (
    name       text PRIMARY KEY,
    outcome    text NOT NULL CHECK (outcome IN ('success', 'failure', 'discarded')),
    meaning    text NOT NULL,
    restorable boolean NOT NULL
);
COMMENT ON TABLE outcome_reason IS 'why an episode has its outcome: what there is to choose from here';
COMMENT ON COLUMN outcome_reason.restorable IS
    'whether such an episode may still be of use, for example once it is trimmed';

-- To begin with; each installation changes them as it likes.
INSERT INTO outcome_reason (name, outcome, meaning, restorable) VALUES
    ('grasp_missed',    'failure',   'The gripper closed beside the object, or lost it at once', true),
    ('dropped',         'failure',   'The object fell on the way', true),
    ('collision',       'failure',   'The robot hit something that it should not have touched', true),
    ('wrong_place',     'failure',   'The object ended where it should not', true),
    ('not_finished',    'failure',   'The episode ended before the task was done', true),
    ('slow_or_unsure',  'success',   'The task was done, with detours or long pauses', true),
    ('operator_error',  'discarded', 'The operator did something else than the task', true),
    ('wrong_task',      'discarded', 'What was done is not the task that it was recorded as', true),
    ('robot_fault',     'discarded', 'A motor, a cable or the teleoperation failed', false),
    ('camera_problem',  'discarded', 'A picture was covered, dark, blurred or moved', false);
"""

VIEWS = """
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
       CASE WHEN s.delivery = 'acknowledged' THEN 0 ELSE s.untold_times END AS untold_times,
       CASE WHEN a.dropped_at IS NOT NULL THEN a.damage END AS archive_damage{session}
  FROM teleop_session s LEFT JOIN session_archive a ON a.session_id = s.id;

CREATE OR REPLACE VIEW episode_overview AS
SELECT session_id, episode_index, start_frame, end_frame, tasks->0->>'task' AS task, outcome, note, tasks,
       CASE WHEN end_frame IS NULL AND paused_from IS NOT NULL AND NOT EXISTS (
            SELECT FROM episode_pause p
             WHERE p.session_id = told.session_id AND p.episode_index = told.episode_index
               AND p.first_frame >= told.paused_from)
            THEN greatest(paused_from, start_frame) END AS paused_from,
       coalesce(cut_off, false) AS cut_off{episode}
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
                                      SELECT key::bigint, value #>> '{{}}'
                                        FROM jsonb_each(e.later_tasks)) AS each) AS spans
                       WHERE (next_frame IS NULL OR next_frame > e.start_frame)
                         AND (e.end_frame IS NULL OR first_frame < e.end_frame)
                      WINDOW told AS (ORDER BY first_frame)) AS within
               WHERE other) END AS tasks
         FROM episode e) AS told;
"""

# An episode's own operator goes before that of its session.
EPISODE = """,
       coalesce(operator, (SELECT s.operator FROM teleop_session s WHERE s.id = told.session_id)) AS operator,
       reason, quality, coalesce(tags, '{}') AS tags,
       coalesce((SELECT max(c.revision) FROM episode_change c
                  WHERE c.session_id = told.session_id
                    AND c.episode_index = told.episode_index), 0) AS revision
"""

# What lies within the episode as it is bounded now, as of its tasks.
PAUSES = """
CREATE FUNCTION episode_pauses(session bigint, episode int, start_frame bigint, stop bigint, shown int)
RETURNS TABLE (pauses jsonb, pause_count bigint, paused_frames bigint) LANGUAGE sql STABLE AS $$
SELECT coalesce(jsonb_agg(jsonb_build_object('first_frame', first_frame, 'end_frame', end_frame)
                          ORDER BY first_frame) FILTER (WHERE number <= shown), '[]'),
       count(*), coalesce(sum(end_frame - first_frame), 0)::bigint
  FROM (SELECT greatest(p.first_frame, episode_pauses.start_frame) AS first_frame,
               least(p.end_frame, stop) AS end_frame,
               row_number() OVER (ORDER BY p.first_frame) AS number
          FROM episode_pause p
         WHERE p.session_id = session AND p.episode_index = episode
           AND p.end_frame > episode_pauses.start_frame AND (stop IS NULL OR p.first_frame < stop)) AS within
$$;
COMMENT ON FUNCTION episode_pauses IS
    'pauses of an episode with these bounds, the first `shown` of them one by one';
"""

# As in 0027, and the operator.
TRIGGER = """
DROP TRIGGER session_edited ON teleop_session;
CREATE TRIGGER session_edited AFTER UPDATE ON teleop_session FOR EACH ROW
    WHEN (({old}) IS DISTINCT FROM ({new})) EXECUTE FUNCTION count_archive_edit();
"""
WATCHED = ("task", "tags", "note", "deleted_at", "status", "logged_frames")


def upgrade() -> None:
    views = VIEWS.format(session=", s.operator", episode=EPISODE)
    run_sql(COLUMNS + HISTORY + PAUSES + views + _trigger(*WATCHED, "operator"))


def downgrade() -> None:
    run_sql(_trigger(*WATCHED) + "DROP VIEW session_overview, episode_overview;")
    run_sql(VIEWS.format(session="", episode=""))
    run_sql("""
        DROP FUNCTION episode_pauses;
        DROP TABLE episode_change, outcome_reason;
        ALTER TABLE episode DROP COLUMN operator, DROP COLUMN reason, DROP COLUMN quality, DROP COLUMN tags;
        ALTER TABLE teleop_session DROP COLUMN operator;
    """)


def _trigger(*columns: str) -> str:
    told = {each: ", ".join(f"{each.upper()}.{name}" for name in columns) for each in ("old", "new")}
    return TRIGGER.format(**told)
