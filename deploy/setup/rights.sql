-- What each service may do: write its own tables, read those of others that it needs, nothing else.
-- Run by the owner of the tables after each migration; a new table gets its line here.

-- Which migrations the database has: readiness asks.
GRANT SELECT ON alembic_version TO telemetry, ingest, export;

GRANT SELECT, INSERT, UPDATE, DELETE
    ON robot, teleop_session, teleop_frame, frame_gap, refused_frames, episode, episode_change,
       episode_look, episode_flag, flag_threshold, episode_pause, outcome_reason, session_mark,
       session_column, session_archive, session_account, session_change
    TO telemetry;
GRANT UPDATE ON installation TO telemetry;
GRANT USAGE, UPDATE ON SEQUENCE teleop_session_id_seq TO telemetry;
GRANT SELECT
    ON session_overview, episode_overview, whole_session, every_episode, teleop_frame_data, session_export, installation, video_chunk,
       video_chunk_use, robot_usage
    TO telemetry;
GRANT SELECT, INSERT, UPDATE, DELETE
    ON principal, access_token, enrolment, robot_pool, join_request, person, sign_in_link, web_session, robot_quota
    TO telemetry;
-- Each service checks tokens and sessions, notes that they were used, and notes what was changed. Nobody takes a note back.
GRANT SELECT ON principal, access_token, person, web_session TO ingest, export;
GRANT UPDATE (last_used_at) ON access_token, web_session TO ingest, export;
GRANT SELECT ON audit TO telemetry;
GRANT INSERT ON audit TO telemetry, ingest, export;
-- Nobody takes an erasure back. Each service notes how far it is with its share.
GRANT SELECT ON erasure TO telemetry, ingest, export;
GRANT INSERT, UPDATE ON erasure TO telemetry;
GRANT SELECT, UPDATE ON erasure_share TO telemetry, ingest, export;
GRANT INSERT ON erasure_share TO telemetry;
GRANT SELECT ON dataset, dataset_version, dataset_file, upload, export TO telemetry;
-- An import is made by two: telemetry-service reads what is stored, makes the session, and says so.
GRANT SELECT ON dataset_version_file, stored_object TO telemetry;
GRANT SELECT, UPDATE ON dataset_import TO telemetry;
GRANT SELECT, INSERT, DELETE ON import_video TO telemetry;
-- They make and drop tables with the rights of their owner.
REVOKE EXECUTE ON FUNCTION ensure_frame_partition, drop_frame_partition, drop_session_view FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_frame_partition, drop_frame_partition, drop_session_view TO telemetry;

GRANT SELECT, INSERT, UPDATE, DELETE
    ON stored_object, upload, video_chunk, dataset, dataset_file, dataset_version, dataset_version_file, robot_usage,
       dataset_import, import_video
    TO ingest;
GRANT SELECT ON teleop_session, session_archive, installation, video_chunk_use, robot_quota TO ingest;

-- What others do reaches the deliveries of webhooks by triggers, which have the rights of their owner.
REVOKE EXECUTE ON FUNCTION tell_webhooks, tell_session_complete, tell_export_ended FROM PUBLIC;
GRANT SELECT, INSERT, UPDATE, DELETE
    ON export, export_push, webhook, webhook_delivery, procrastinate_jobs, procrastinate_events, procrastinate_periodic_defers, procrastinate_workers
    TO export;
GRANT USAGE
    ON SEQUENCE procrastinate_jobs_id_seq, procrastinate_events_id_seq, procrastinate_periodic_defers_id_seq
    TO export;
GRANT SELECT
    ON robot, teleop_session, session_overview, teleop_frame, frame_gap, refused_frames, episode, episode_overview,
       episode_pause, session_mark, session_column, session_export, session_archive, video_chunk, video_chunk_use,
       stored_object, installation
    TO export;
