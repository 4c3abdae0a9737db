"""What people say of an archived session is written to the archive again."""

from teleop_schema.migrations import run_sql

revision = "0027"
down_revision = "0026"

# Archives of older releases say what was true when they were made: all of them are told once more. So is
# each new copy, because the session may have changed while it was made.
SCHEMA = """
ALTER TABLE session_archive ADD COLUMN edits bigint NOT NULL DEFAULT 1,
                            ADD COLUMN noted_edits bigint NOT NULL DEFAULT 0;
CREATE INDEX session_archive_unnoted ON session_archive (session_id) WHERE noted_edits <> edits;
COMMENT ON COLUMN session_archive.edits IS 'how often the session or an episode of it was changed since';
COMMENT ON COLUMN session_archive.noted_edits IS 'how many of them the archive''s session.json has';

-- The database notices, whoever changes it. Commits of frames fire neither of them.
CREATE FUNCTION count_archive_edit() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE session_archive SET edits = edits + 1
     WHERE session_id = CASE TG_TABLE_NAME WHEN 'episode' THEN (to_jsonb(NEW)->>'session_id')::bigint
                                           ELSE (to_jsonb(NEW)->>'id')::bigint END;
    RETURN NULL;
END $$;
CREATE TRIGGER session_edited AFTER UPDATE ON teleop_session FOR EACH ROW
    WHEN ((OLD.task, OLD.tags, OLD.note, OLD.deleted_at, OLD.status, OLD.logged_frames)
          IS DISTINCT FROM (NEW.task, NEW.tags, NEW.note, NEW.deleted_at, NEW.status, NEW.logged_frames))
    EXECUTE FUNCTION count_archive_edit();
CREATE TRIGGER episode_edited AFTER INSERT OR UPDATE ON episode FOR EACH ROW
    EXECUTE FUNCTION count_archive_edit();
"""


def upgrade() -> None:
    run_sql(SCHEMA)


def downgrade() -> None:
    run_sql("""
        DROP TRIGGER session_edited ON teleop_session;
        DROP TRIGGER episode_edited ON episode;
        DROP FUNCTION count_archive_edit;
        ALTER TABLE session_archive DROP COLUMN edits, DROP COLUMN noted_edits;
    """)
