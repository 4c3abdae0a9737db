"""What is not finite reads in SQL's view of a frame as in JSON everywhere."""

from teleop_schema.migrations import run_sql

revision = "0010"
down_revision = "0009"

SCHEMA = """
-- NaN is null, as JSON has it; infinities are "Infinity" and "-Infinity" by PostgreSQL's own rule.
CREATE OR REPLACE VIEW teleop_frame_data AS
SELECT f.session_id, f.frame_index, f."timestamp",
       jsonb_build_object(
           'observation', (SELECT coalesce(jsonb_object_agg(n, nullif(v, 'NaN')), '{}')
                           FROM unnest(s.state_names, f.state) AS state(n, v)),
           'action', (SELECT coalesce(jsonb_object_agg(n, nullif(v, 'NaN')), '{}')
                      FROM unnest(s.action_names, f.action) AS action(n, v))
       ) AS data,
       f.observation_age_us
FROM teleop_frame f JOIN teleop_session s ON s.id = f.session_id;
"""


def upgrade() -> None:
    run_sql(SCHEMA)


def downgrade() -> None:
    run_sql("""
        CREATE OR REPLACE VIEW teleop_frame_data AS
        SELECT f.session_id, f.frame_index, f."timestamp",
               jsonb_build_object(
                   'observation', (SELECT coalesce(jsonb_object_agg(n, v), '{}')
                                   FROM unnest(s.state_names, f.state) AS state(n, v)),
                   'action', (SELECT coalesce(jsonb_object_agg(n, v), '{}')
                              FROM unnest(s.action_names, f.action) AS action(n, v))
               ) AS data,
               f.observation_age_us
        FROM teleop_frame f JOIN teleop_session s ON s.id = f.session_id;
    """)
