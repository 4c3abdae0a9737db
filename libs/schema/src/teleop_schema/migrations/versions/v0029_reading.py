"""Frames are found by their time; a session can be read with one column per joint.

The index on the time is not made here but by `frame_index`, which does not keep anybody from writing.
"""

from teleop_schema.migrations import run_sql

revision = "0029"
down_revision = "0028"

# As v0018 made it.
BEFORE = """
CREATE OR REPLACE FUNCTION ensure_frame_partition(session_id bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    part bigint;
    partition_name text;
    bounds text;
BEGIN
    FOR part IN SELECT session_id / 1000 + ahead FROM generate_series(0, 1) AS ahead LOOP
        partition_name := format('teleop_frame_%s', part);
        CONTINUE WHEN EXISTS (SELECT FROM pg_inherits WHERE inhparent = 'teleop_frame'::regclass
                                 AND inhrelid = to_regclass(partition_name) AND NOT inhdetachpending);
        LOCK TABLE teleop_frame IN SHARE UPDATE EXCLUSIVE MODE;
        bounds := format('FOR VALUES FROM (''%s'') TO (''%s'')', part * 1000, (part + 1) * 1000);
        CONTINUE WHEN EXISTS (SELECT FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
                               WHERE inhparent = 'teleop_frame'::regclass AND NOT inhdetachpending
                                 AND pg_get_expr(relpartbound, pg_class.oid) = bounds);
        IF to_regclass(partition_name) IS NOT NULL THEN
            RAISE EXCEPTION USING
                ERRCODE = 'object_not_in_prerequisite_state',
                MESSAGE = format('the table %s is there, but it is no partition of teleop_frame',
                                 partition_name),
                HINT = format('attach it again: ALTER TABLE teleop_frame ATTACH PARTITION %I %s; '
                              'or give it another name', partition_name, bounds);
        END IF;
        EXECUTE format('CREATE TABLE %I (LIKE teleop_frame INCLUDING ALL)', partition_name);
        EXECUTE format('ALTER TABLE teleop_frame ATTACH PARTITION %I %s', partition_name, bounds);
    END LOOP;
END $$;
"""

# Frames arrive nearly in the order of their times, so the least and the greatest of each stretch of pages say
# where to look. Summaries are made as a stretch is full: the newest frames are those that are asked for.
INDEX = """\
        EXECUTE format('CREATE INDEX %I ON %I USING brin ("timestamp") '
                       'WITH (pages_per_range = 64, autosummarize = on)',
                       partition_name || '_time', partition_name);
"""
ATTACH = "        EXECUTE format('ALTER TABLE teleop_frame ATTACH"
PARTITIONS = BEFORE.replace(ATTACH, INDEX + ATTACH)

# The view's statement has the names and places of the session's joints, as columns can't depend on rows.
VIEWS = r"""
CREATE INDEX episode_start ON episode (session_id, start_frame);

CREATE FUNCTION make_session_view(session bigint) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT SET lock_timeout = '5s' AS $$
DECLARE
    view_name text := format('session_%s', session);
    known teleop_session;
    joints text;
BEGIN
    SELECT * INTO known FROM teleop_session s WHERE s.id = session;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'session % does not exist', session
              USING ERRCODE = 'no_data_found', HINT = 'SELECT id, start_time FROM session_overview lists all';
    END IF;
    IF EXISTS (SELECT FROM session_archive a WHERE a.session_id = session AND a.dropped_at IS NOT NULL) THEN
        RAISE EXCEPTION 'the frames of session % are in the archive', session
              USING ERRCODE = 'no_data_found',
                    HINT = format('bring them back: python -m teleop_telemetry.archive restore --session %s',
                                  session);
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('make_session_view', 0));
    IF to_regclass(view_name) IS NOT NULL THEN
        RETURN view_name;
    END IF;
    -- Names of columns have at most 63 bytes: longer ones are cut, and told apart by their number.
    SELECT string_agg(format(', f.%s[%s] AS %I', part, number,
               CASE WHEN octet_length(name) <= 63 THEN name
                    ELSE left(name, (SELECT max(n) FROM generate_series(1, 58) AS n
                                      WHERE octet_length(left(name, n)) <= 58)) || '~' || number END), ''
               ORDER BY part DESC, number) INTO joints
      FROM (SELECT 'state' AS part, number, 'observation.' || told AS name
              FROM unnest(known.state_names) WITH ORDINALITY AS names (told, number)
             UNION ALL
            SELECT 'action', number, 'action.' || told
              FROM unnest(known.action_names) WITH ORDINALITY AS names (told, number)) AS columns;
    EXECUTE format($view$
        CREATE VIEW %I AS
        SELECT f.session_id, f.frame_index, f."timestamp",
               (SELECT begun.episode_index
                  FROM (SELECT e.episode_index, e.end_frame FROM episode e
                         WHERE e.session_id = %2$s AND e.start_frame <= f.frame_index
                           AND e.end_frame IS DISTINCT FROM e.start_frame
                         ORDER BY e.start_frame DESC LIMIT 1) AS begun
                 WHERE (begun.end_frame > f.frame_index OR begun.end_frame IS NULL)
                   AND NOT EXISTS (SELECT FROM episode_pause p
                                    WHERE p.session_id = %2$s AND p.episode_index = begun.episode_index
                                      AND p.first_frame <= f.frame_index AND p.end_frame > f.frame_index)
               ) AS episode_index
               %3$s, f.observation_age_us
          FROM teleop_frame f WHERE f.session_id = %2$s
        $view$, view_name, session, coalesce(joints, ''));
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'reader') THEN
        EXECUTE format('GRANT SELECT ON %I TO reader', view_name);
    END IF;
    RETURN view_name;
END $$;
COMMENT ON FUNCTION make_session_view IS
    'the name of a view of the session''s frames with one column per joint, made if it is not there yet';
REVOKE EXECUTE ON FUNCTION make_session_view FROM PUBLIC;
"""


def upgrade() -> None:
    run_sql(PARTITIONS + VIEWS)


def downgrade() -> None:
    run_sql(r"""
        DO $$
        DECLARE
            made regclass;
        BEGIN
            FOR made IN SELECT oid FROM pg_class WHERE relkind = 'v' AND relname ~ '^session_\d+$'
                           AND relnamespace = current_schema::regnamespace LOOP
                EXECUTE format('DROP VIEW %s', made);
            END LOOP;
        END $$;
        DROP FUNCTION make_session_view;
        DROP INDEX episode_start;
    """)
    run_sql(BEFORE)
