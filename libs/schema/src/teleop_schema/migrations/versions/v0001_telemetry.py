"""Telemetry: sessions, their frames, episodes, gaps and marks, and the robots they came from.

Every table here is written by telemetry-service alone.
"""

from teleop_schema.migrations import run_sql

revision = "0001"
down_revision = None

SCHEMA = """
CREATE TABLE robot (
    robot_id      text PRIMARY KEY,
    robot_type    text NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    last_seen_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE teleop_session (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream_id        uuid NOT NULL UNIQUE,
    robot_id         text NOT NULL REFERENCES robot,
    robot_type       text NOT NULL,
    start_time       timestamptz NOT NULL,
    end_time         timestamptz,
    fps              double precision NOT NULL CHECK (fps > 0),
    task             text,
    state_names      text[] NOT NULL,
    action_names     text[] NOT NULL,
    cameras          jsonb NOT NULL DEFAULT '{}',
    host             jsonb NOT NULL DEFAULT '{}',
    delivery         text NOT NULL CHECK (delivery IN ('acknowledged', 'best_effort')),
    status           text NOT NULL DEFAULT 'recording'
                     CHECK (status IN ('recording', 'complete', 'interrupted')),
    next_frame_index bigint NOT NULL DEFAULT 0,
    logged_frames    bigint,
    epoch            integer NOT NULL DEFAULT 1,
    last_frame_time  timestamptz,
    last_commit_at   timestamptz,
    tags             text[] NOT NULL DEFAULT '{}',
    note             text,
    deleted_at       timestamptz
) WITH (fillfactor = 70);
CREATE INDEX teleop_session_robot ON teleop_session (robot_id, id DESC);
COMMENT ON COLUMN teleop_session.next_frame_index IS
    'watermark: every frame index below it is committed, as a frame or as a named gap';
COMMENT ON COLUMN teleop_session.logged_frames IS
    'what the robot says it logged in all, told when the session ended';
COMMENT ON COLUMN teleop_session.epoch IS
    'raised by each take-over; writers of an older epoch are fenced';

CREATE TABLE teleop_frame (
    session_id  bigint NOT NULL,
    frame_index bigint NOT NULL,
    "timestamp" timestamptz NOT NULL,
    state       real[] NOT NULL,
    action      real[] NOT NULL,
    extra       jsonb,
    PRIMARY KEY (session_id, frame_index)
) PARTITION BY RANGE (session_id);

-- Partitions hold 1000 sessions each, so that old data leaves by dropping a partition. The one after the
-- session's own is made ahead, so that a running fleet never waits for one.
CREATE FUNCTION ensure_frame_partition(session_id bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    part bigint;
    partition_name text;
BEGIN
    FOR part IN SELECT session_id / 1000 + ahead FROM generate_series(0, 1) AS ahead LOOP
        partition_name := format('teleop_frame_%s', part);
        CONTINUE WHEN to_regclass(partition_name) IS NOT NULL;
        LOCK TABLE teleop_frame IN SHARE UPDATE EXCLUSIVE MODE;
        CONTINUE WHEN to_regclass(partition_name) IS NOT NULL;
        EXECUTE format('CREATE TABLE %I (LIKE teleop_frame INCLUDING ALL)', partition_name);
        EXECUTE format('ALTER TABLE teleop_frame ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)',
                       partition_name, part * 1000, (part + 1) * 1000);
    END LOOP;
END $$;
SELECT ensure_frame_partition(0);

CREATE TABLE frame_gap (
    session_id  bigint NOT NULL REFERENCES teleop_session,
    first_frame bigint NOT NULL,
    end_frame   bigint NOT NULL CHECK (end_frame > first_frame),
    reason      text NOT NULL,
    PRIMARY KEY (session_id, first_frame)
);
COMMENT ON TABLE frame_gap IS 'frames below the watermark that are missing, half-open, each with its reason';

CREATE TABLE episode (
    session_id    bigint NOT NULL REFERENCES teleop_session,
    episode_index integer NOT NULL,
    start_frame   bigint NOT NULL,
    end_frame     bigint CHECK (end_frame >= start_frame),
    task          text,
    outcome       text CHECK (outcome IN ('success', 'failure', 'discarded')),
    note          text,
    PRIMARY KEY (session_id, episode_index)
);

CREATE TABLE session_mark (
    session_id  bigint NOT NULL REFERENCES teleop_session,
    frame_index bigint NOT NULL,
    note        text NOT NULL
);
-- By the note's hash, for an index takes no text of more than 2704 bytes.
CREATE UNIQUE INDEX session_mark_once ON session_mark (session_id, frame_index, md5(note));

CREATE VIEW session_overview AS
SELECT s.*, s.next_frame_index AS frames, s.logged_frames AS logged,
       (SELECT coalesce(sum(g.end_frame - g.first_frame), 0)::bigint
          FROM frame_gap g WHERE g.session_id = s.id) AS missing,
       (SELECT count(*) FROM episode e WHERE e.session_id = s.id) AS episodes
  FROM teleop_session s;

-- The plain shape of a frame: {"observation": {name: value}, "action": {name: value}}.
CREATE VIEW teleop_frame_data AS
SELECT f.session_id, f.frame_index, f."timestamp",
       jsonb_build_object(
           'observation', (SELECT coalesce(jsonb_object_agg(n, v), '{}')
                           FROM unnest(s.state_names, f.state) AS state(n, v)),
           'action', (SELECT coalesce(jsonb_object_agg(n, v), '{}')
                      FROM unnest(s.action_names, f.action) AS action(n, v))
       ) AS data
FROM teleop_frame f JOIN teleop_session s ON s.id = f.session_id;
"""


def upgrade() -> None:
    run_sql(SCHEMA)


def downgrade() -> None:
    run_sql("""
        DROP VIEW teleop_frame_data, session_overview;
        DROP TABLE session_mark, episode, frame_gap, teleop_frame, teleop_session, robot;
        DROP FUNCTION ensure_frame_partition;
    """)
