"""What the ledger measures of a session's frames is kept."""

from teleop_schema.migrations import run_sql

revision = "0016"
down_revision = "0015"

SCHEMA = """
ALTER TABLE teleop_session ADD COLUMN frames_changed_at timestamptz;
COMMENT ON COLUMN teleop_session.frames_changed_at IS
    'when somebody changed or removed stored frames of it, past every service; null: nobody did';

CREATE TABLE session_account (
    session_id        bigint PRIMARY KEY REFERENCES teleop_session,
    next_frame_index  bigint NOT NULL,
    last_commit_at    timestamptz,
    frames_changed_at timestamptz,
    account           jsonb NOT NULL
) WITH (fillfactor = 70);
COMMENT ON TABLE session_account IS
    'what the ledger measures of a session''s frames, which takes long if they are millions; true while the '
    'other columns are those of the session';

-- Frames come with their watermark, and stay as they are. Should somebody change them by hand all the same,
-- what was measured is true no more. Frames that leave with their partition do not come here.
CREATE FUNCTION note_changed_frames() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE teleop_session SET frames_changed_at = clock_timestamp()
     WHERE id IN (SELECT DISTINCT session_id FROM changed);
    RETURN NULL;
END $$;
CREATE TRIGGER frames_deleted AFTER DELETE ON teleop_frame
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_changed_frames();
CREATE TRIGGER frames_updated AFTER UPDATE ON teleop_frame
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_changed_frames();
"""


def upgrade() -> None:
    run_sql(SCHEMA)


def downgrade() -> None:
    run_sql("""
        DROP TRIGGER frames_deleted ON teleop_frame;
        DROP TRIGGER frames_updated ON teleop_frame;
        DROP FUNCTION note_changed_frames;
        DROP TABLE session_account;
        ALTER TABLE teleop_session DROP COLUMN frames_changed_at;
    """)
