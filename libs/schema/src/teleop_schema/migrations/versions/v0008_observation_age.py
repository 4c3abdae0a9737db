"""Frames that repeat the observation of an earlier one are told apart."""

from teleop_schema.migrations import run_sql

revision = "0008"
down_revision = "0007"

SCHEMA = """
ALTER TABLE teleop_frame ADD COLUMN observation_age_us bigint;
COMMENT ON COLUMN teleop_frame.observation_age_us IS
    'set: the action came without a new observation; state is that of the newest frame before with null here '
    'and was this old at "timestamp", when the action was sent. Null: the observation is the frame''s own';

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
"""


def upgrade() -> None:
    run_sql(SCHEMA)


def downgrade() -> None:
    run_sql("""
        DROP VIEW teleop_frame_data;
        CREATE VIEW teleop_frame_data AS
        SELECT f.session_id, f.frame_index, f."timestamp",
               jsonb_build_object(
                   'observation', (SELECT coalesce(jsonb_object_agg(n, v), '{}')
                                   FROM unnest(s.state_names, f.state) AS state(n, v)),
                   'action', (SELECT coalesce(jsonb_object_agg(n, v), '{}')
                              FROM unnest(s.action_names, f.action) AS action(n, v))
               ) AS data
        FROM teleop_frame f JOIN teleop_session s ON s.id = f.session_id;
        ALTER TABLE teleop_frame DROP COLUMN observation_age_us;
    """)
