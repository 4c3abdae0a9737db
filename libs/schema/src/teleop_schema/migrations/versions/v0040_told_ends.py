"""Whether a robot has told an episode's end, what it told since people judged, and who changed a session.

Written by telemetry-service alone.
"""

from teleop_schema.migrations import run_sql

revision = "0040"
down_revision = "0039"

# Null where archives of before have nothing.
COLUMNS = """
ALTER TABLE episode ADD COLUMN end_told boolean,
                    ADD COLUMN told_revision integer,
                    ADD COLUMN whole boolean;
COMMENT ON COLUMN episode.end_told IS
    'whether its robot has told its end; null: it began before this was recorded';
COMMENT ON COLUMN episode.told_revision IS
    'its revision when its robot last told a task, an outcome or a note of it; null: it told none';
COMMENT ON COLUMN episode.whole IS
    'true: its robot told no episodes, and somebody has judged the whole session';
"""

HISTORY = """
CREATE TABLE session_change (
    session_id bigint NOT NULL REFERENCES teleop_session,
    revision   integer NOT NULL CHECK (revision > 0),
    changed_at timestamptz NOT NULL DEFAULT now(),
    changed_by text NOT NULL,
    before     jsonb NOT NULL,
    after      jsonb NOT NULL,
    PRIMARY KEY (session_id, revision)
);
COMMENT ON TABLE session_change IS 'what people changed of a session, one after the other';
COMMENT ON COLUMN session_change.before IS 'columns of the session that were changed, with what they held';
COMMENT ON COLUMN session_change.after IS 'the same columns, with what they hold since';
"""

# What is told of no session, but of the installation: the archive has it, too, for a database that is made
# again. The number is of changes; what is written is always all of it.
INSTALLATION = """
ALTER TABLE installation ADD COLUMN edits bigint NOT NULL DEFAULT 1,
                         ADD COLUMN noted_edits bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN installation.edits IS 'how often the outcome reasons were changed';
COMMENT ON COLUMN installation.noted_edits IS 'how many of these changes the archive has';

CREATE FUNCTION count_installation_edit() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE installation SET edits = edits + 1;
    RETURN NULL;
END $$;
CREATE TRIGGER outcome_reason_edited AFTER INSERT OR UPDATE OR DELETE ON outcome_reason
    FOR EACH STATEMENT EXECUTE FUNCTION count_installation_edit();
"""

EPISODES = """
CREATE OR REPLACE VIEW episode_overview AS
SELECT session_id, episode_index, start_frame, end_frame, tasks->0->>'task' AS task, outcome, note, tasks,
       CASE WHEN end_frame IS NULL AND paused_from IS NOT NULL AND NOT EXISTS (
            SELECT FROM episode_pause p
             WHERE p.session_id = told.session_id AND p.episode_index = told.episode_index
               AND p.first_frame >= told.paused_from)
            THEN greatest(paused_from, start_frame) END AS paused_from,
       coalesce(cut_off, false) AS cut_off,
       coalesce(operator, (SELECT s.operator FROM teleop_session s WHERE s.id = told.session_id)) AS operator,
       reason, quality, coalesce(tags, '{{}}') AS tags,
       {revision} AS revision
  FROM (
       SELECT e.*, CASE WHEN e.later_tasks IS NULL
              THEN jsonb_build_array(jsonb_build_object('first_frame', e.start_frame, 'task', {task}))
              ELSE (
              SELECT jsonb_agg(jsonb_build_object('first_frame', first_frame, 'task', task)
                               ORDER BY first_frame)
                FROM (SELECT greatest(first_frame, e.start_frame) AS first_frame, task,
                             row_number() OVER told = 1
                             OR task IS DISTINCT FROM lag(task) OVER told AS other
                        FROM (SELECT first_frame, task,
                                     lead(first_frame) OVER (ORDER BY first_frame) AS next_frame
                                FROM (SELECT -1::bigint AS first_frame, {task} AS task
                                       UNION ALL
                                      SELECT key::bigint, {later}
                                        FROM jsonb_each(e.later_tasks)) AS each) AS spans
                       WHERE (next_frame IS NULL OR next_frame > e.start_frame)
                         AND (e.end_frame IS NULL OR first_frame < e.end_frame)
                      WINDOW told AS (ORDER BY first_frame)) AS within
               WHERE other) END AS tasks
         FROM episode e) AS told;
"""
CHANGES = """(SELECT max(c.revision) FROM episode_change c
                  WHERE c.session_id = told.session_id
                    AND c.episode_index = told.episode_index)"""

# There is no row of `episode` until somebody judges it.
WHOLE = """
CREATE VIEW whole_session AS
SELECT s.id AS session_id, 0 AS episode_index, 0::bigint AS start_frame,
       greatest(s.next_frame_index, CASE WHEN s.found_at IS NOT NULL THEN s.logged_frames END) AS end_frame,
       NULL::text AS task, NULL::text AS outcome, NULL::text AS note,
       '[{"first_frame": 0, "task": null}]'::jsonb AS tasks, NULL::bigint AS paused_from, false AS cut_off,
       s.operator, NULL::text AS reason, NULL::smallint AS quality, '{}'::text[] AS tags, 0 AS revision
  FROM teleop_session s
 WHERE s.status <> 'recording'
   AND greatest(s.next_frame_index, CASE WHEN s.found_at IS NOT NULL THEN s.logged_frames END) > 0
   AND NOT EXISTS (SELECT FROM episode e WHERE e.session_id = s.id);
COMMENT ON VIEW whole_session IS 'ended sessions whose robot told no episodes: each counts as one';

CREATE VIEW every_episode AS
SELECT * FROM episode_overview UNION ALL SELECT * FROM whole_session;
COMMENT ON VIEW every_episode IS 'episodes, and sessions that count as one';
"""


def upgrade() -> None:
    episodes = EPISODES.format(
        revision=f"greatest(told_revision, {CHANGES}, 0)",
        task="nullif(e.task, '')",
        later="nullif(value #>> '{}', '')",
    )
    run_sql(COLUMNS + HISTORY + INSTALLATION + episodes + WHOLE)


def downgrade() -> None:
    run_sql("DROP VIEW every_episode, whole_session;")
    run_sql(EPISODES.format(revision=f"coalesce({CHANGES}, 0)", task="e.task", later="value #>> '{}'"))
    run_sql("""
        DROP TRIGGER outcome_reason_edited ON outcome_reason;
        DROP FUNCTION count_installation_edit;
        ALTER TABLE installation DROP COLUMN edits, DROP COLUMN noted_edits;
        DROP TABLE session_change;
        ALTER TABLE episode DROP COLUMN end_told, DROP COLUMN told_revision, DROP COLUMN whole;
    """)
