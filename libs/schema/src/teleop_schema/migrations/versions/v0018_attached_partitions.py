"""A partition of frames is one only while it is attached; a table that merely has its name is told of."""

from teleop_schema.migrations import run_sql

revision = "0018"
down_revision = "0017"

# Looked for by name first, for it is quick; one that was renamed is still there, by its bounds.
SCHEMA = """
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

BEFORE = """
CREATE OR REPLACE FUNCTION ensure_frame_partition(session_id bigint) RETURNS void
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
"""


def upgrade() -> None:
    run_sql(SCHEMA)


def downgrade() -> None:
    run_sql(BEFORE)
