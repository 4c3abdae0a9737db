"""Video of depth cameras."""

from teleop_schema.migrations import run_sql

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    run_sql("""
        ALTER TABLE video_chunk ADD COLUMN depth_unit text CHECK (depth_unit IN ('mm', 'm'));
        COMMENT ON COLUMN video_chunk.depth_unit IS
            'unit in which the camera gave depth, of which the pictures are codes; null: they are colours';
    """)


def downgrade() -> None:
    run_sql("ALTER TABLE video_chunk DROP COLUMN depth_unit")
