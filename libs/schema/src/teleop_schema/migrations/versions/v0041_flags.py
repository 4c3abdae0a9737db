"""What is suspicious about episodes.

Written by telemetry-service alone.
"""

from teleop_schema.migrations import run_sql

revision = "0041"
down_revision = "0040"

SCHEMA = """
CREATE TABLE episode_look (
    session_id    bigint NOT NULL,
    episode_index integer NOT NULL,
    due_at        timestamptz,
    attempts      smallint NOT NULL DEFAULT 0,
    looked_at     timestamptz,
    basis         bigint,
    start_frame   bigint,
    end_frame     bigint,
    robot_type    text,
    fps           double precision,
    task          text,
    duration_s    double precision,
    measured      jsonb,
    digest        jsonb,
    suspicion     integer,
    PRIMARY KEY (session_id, episode_index),
    FOREIGN KEY (session_id, episode_index) REFERENCES episode ON DELETE CASCADE
);
COMMENT ON TABLE episode_look IS 'looks for what is suspicious: which episodes are due, and what was found';
COMMENT ON COLUMN episode_look.due_at IS
    'from when on somebody is to look; who looks puts it off meanwhile. Null: nothing has changed since';
COMMENT ON COLUMN episode_look.attempts IS 'looks that could not be finished';
COMMENT ON COLUMN episode_look.basis IS
    'version of the measurements times 2^32, plus revision of the thresholds';
COMMENT ON COLUMN episode_look.start_frame IS 'as it was measured, like all that follows';
COMMENT ON COLUMN episode_look.measured IS 'all values, whether or not they are beyond a threshold';
COMMENT ON COLUMN episode_look.digest IS 'what other episodes are compared with';
COMMENT ON COLUMN episode_look.suspicion IS 'in hundredths; 0: no flag';
CREATE INDEX episode_look_due ON episode_look (session_id, episode_index) WHERE due_at IS NOT NULL;
CREATE INDEX episode_look_basis ON episode_look (basis);
CREATE INDEX episode_look_suspicion ON episode_look (suspicion, session_id, episode_index);
CREATE INDEX episode_look_task ON episode_look (robot_type, task, session_id);
CREATE INDEX episode_look_duration ON episode_look (robot_type, duration_s);

CREATE TABLE episode_flag (
    session_id    bigint NOT NULL,
    episode_index integer NOT NULL,
    number        integer NOT NULL,
    flag          text NOT NULL,
    joint         text,
    first_frame   bigint NOT NULL,
    end_frame     bigint NOT NULL,
    value         double precision NOT NULL,
    threshold     double precision NOT NULL,
    other_session bigint,
    other_episode integer,
    PRIMARY KEY (session_id, episode_index, number),
    FOREIGN KEY (session_id, episode_index) REFERENCES episode ON DELETE CASCADE
);
COMMENT ON TABLE episode_flag IS 'what is suspicious about an episode, and when';
CREATE INDEX episode_flag_flag ON episode_flag (flag, session_id, episode_index);

CREATE TABLE flag_threshold (
    revision   integer PRIMARY KEY CHECK (revision > 0),
    flag       text NOT NULL,
    threshold  double precision,
    changed_at timestamptz NOT NULL DEFAULT now(),
    changed_by text NOT NULL
);
COMMENT ON TABLE flag_threshold IS 'thresholds that people have set; of each flag, the latest holds';
COMMENT ON COLUMN flag_threshold.threshold IS 'null: the default again';

-- An episode is looked at once its end is known, and again when a person has moved its bounds or its task.
CREATE FUNCTION let_look_at_episode() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO episode_look (session_id, episode_index, due_at)
    VALUES (NEW.session_id, NEW.episode_index, now())
        ON CONFLICT (session_id, episode_index) DO UPDATE SET due_at = now(), attempts = 0;
    RETURN NULL;
END $$;
CREATE TRIGGER episode_added AFTER INSERT ON episode FOR EACH ROW
    WHEN (NEW.end_frame IS NOT NULL) EXECUTE FUNCTION let_look_at_episode();
CREATE TRIGGER episode_bounded AFTER UPDATE ON episode FOR EACH ROW
    WHEN (NEW.end_frame IS NOT NULL AND (OLD.start_frame, OLD.end_frame, OLD.task, OLD.later_tasks)
          IS DISTINCT FROM (NEW.start_frame, NEW.end_frame, NEW.task, NEW.later_tasks))
    EXECUTE FUNCTION let_look_at_episode();

INSERT INTO episode_look (session_id, episode_index, due_at)
SELECT session_id, episode_index, now() FROM episode WHERE end_frame IS NOT NULL;
"""


def upgrade() -> None:
    run_sql(SCHEMA)


def downgrade() -> None:
    run_sql("""
        DROP TRIGGER episode_added ON episode;
        DROP TRIGGER episode_bounded ON episode;
        DROP FUNCTION let_look_at_episode;
        DROP TABLE flag_threshold, episode_flag, episode_look;
    """)
