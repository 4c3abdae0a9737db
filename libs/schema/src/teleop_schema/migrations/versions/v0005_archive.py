"""The archive: sessions whose frames were copied to the store, and may have left the database since.

Every table here is written by telemetry-service alone.
"""

from teleop_schema.migrations import run_sql

revision = "0005"
down_revision = "0004"

SCHEMA = """
CREATE TABLE session_archive (
    session_id       bigint PRIMARY KEY REFERENCES teleop_session,
    next_frame_index bigint NOT NULL,
    frames           bigint NOT NULL CHECK (frames >= 0),
    frames_sha256    text NOT NULL,
    frames_bytes     bigint NOT NULL,
    about_sha256     text NOT NULL,
    account          jsonb NOT NULL,
    copied_at        timestamptz NOT NULL DEFAULT now(),
    dropped_at       timestamptz,
    restored_at      timestamptz
) WITH (fillfactor = 70);
COMMENT ON TABLE session_archive IS 'copies that were read back and compared with the database';
COMMENT ON COLUMN session_archive.next_frame_index IS 'the watermark that the copy goes up to';
COMMENT ON COLUMN session_archive.account IS 'what the ledger measures of the frames, as of the copy';
COMMENT ON COLUMN session_archive.dropped_at IS 'when the frames left the database; null: they are in it';

CREATE OR REPLACE VIEW session_overview AS
SELECT s.*, s.next_frame_index AS frames, s.logged_frames AS logged,
       (SELECT coalesce(sum(g.end_frame - g.first_frame), 0)::bigint
          FROM frame_gap g WHERE g.session_id = s.id) AS missing,
       (SELECT count(*) FROM episode e WHERE e.session_id = s.id) AS episodes,
       a.dropped_at AS archived_at
  FROM teleop_session s LEFT JOIN session_archive a ON a.session_id = s.id;

-- Drops the partition `part`; returns how many frames it held. Raises object_not_in_prerequisite_state unless
-- each session of it has ended and was archived as it stands, and the archive holds as many frames. Whoever
-- still has one of them open is fenced. While other transactions use teleop_frame it gives up within seconds
-- (lock_not_available), for everything behind it would wait, too.
CREATE FUNCTION drop_frame_partition(part bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT SET lock_timeout = '2s' AS $$
DECLARE
    partition_name text := format('teleop_frame_%s', part);
    stored bigint;
    archived bigint;
BEGIN
    PERFORM FROM teleop_session s WHERE s.id >= part * 1000 AND s.id < (part + 1) * 1000
      ORDER BY s.id FOR NO KEY UPDATE;
    EXECUTE format('LOCK TABLE %I IN SHARE MODE', partition_name);
    IF EXISTS (SELECT FROM teleop_session s
                 LEFT JOIN session_archive a
                        ON a.session_id = s.id AND a.next_frame_index = s.next_frame_index
                WHERE s.id >= part * 1000 AND s.id < (part + 1) * 1000
                  AND (a.session_id IS NULL OR s.status = 'recording')) THEN
        RAISE EXCEPTION 'not every session of % has ended and is archived as it stands', partition_name
              USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    EXECUTE format('SELECT count(*) FROM %I', partition_name) INTO stored;
    SELECT coalesce(sum(a.frames), 0) INTO archived FROM session_archive a
     WHERE a.session_id >= part * 1000 AND a.session_id < (part + 1) * 1000 AND a.dropped_at IS NULL;
    IF stored <> archived THEN
        RAISE EXCEPTION '% holds % frames, the archive has % of them', partition_name, stored, archived
              USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    EXECUTE format('ALTER TABLE teleop_frame DETACH PARTITION %I', partition_name);
    EXECUTE format('DROP TABLE %I', partition_name);
    UPDATE teleop_session SET epoch = epoch + 1 WHERE id >= part * 1000 AND id < (part + 1) * 1000;
    UPDATE session_archive a SET dropped_at = now()
     WHERE a.session_id >= part * 1000 AND a.session_id < (part + 1) * 1000 AND a.dropped_at IS NULL;
    RETURN stored;
END $$;
"""


def upgrade() -> None:
    run_sql(SCHEMA)


def downgrade() -> None:
    run_sql("""
        DROP FUNCTION drop_frame_partition;
        DROP VIEW session_overview;
        CREATE VIEW session_overview AS
        SELECT s.*, s.next_frame_index AS frames, s.logged_frames AS logged,
               (SELECT coalesce(sum(g.end_frame - g.first_frame), 0)::bigint
                  FROM frame_gap g WHERE g.session_id = s.id) AS missing,
               (SELECT count(*) FROM episode e WHERE e.session_id = s.id) AS episodes
          FROM teleop_session s;
        DROP TABLE session_archive;
    """)
