"""How much of the video of a session's cameras has arrived. Runs on the caller's connection."""

import asyncpg
import msgspec
from teleop_runtime.postgres.pool import Connection
from teleop_schema.files import SILENT_CAMERA_S

from teleop_telemetry.tables.views import CameraAccount, QuarantinedVideo, StrayVideo

# `reached`: the frame after the last one for which there is a picture or a reason for none. A sender without
# frames for its pictures has sent their times; what lies outside the session by these reaches nothing. No
# robot tells of the cameras of such senders, so they count although none has.
ACCOUNTS = """
SELECT name, count(c.id) AS chunks,
       coalesce(max(c.chunk_index) + 1, 0) - count(c.id) AS missing_chunks,
       coalesce(sum(c.frame_count) FILTER (WHERE u.unusable IS NULL), 0)::bigint AS pictures,
       coalesce(max(greatest(
           c.frame_indices[cardinality(c.frame_indices)] + 1,
           (SELECT max((lost->>'end')::bigint) FROM jsonb_array_elements(c.dropped) AS lost),
           CASE WHEN c.frame_indices IS NULL AND NOT (c.end_timestamp < $6 OR c.start_timestamp > $5)
                THEN ceil($3 - $4 * extract(epoch FROM $5::timestamptz - c.end_timestamp))::bigint END)), 0)
       AS reached,
       coalesce(jsonb_agg(jsonb_build_object('id', c.id, 'chunk_index', c.chunk_index, 'start_timestamp',
                                             c.start_timestamp, 'end_timestamp', c.end_timestamp)
                          ORDER BY c.chunk_index)
                FILTER (WHERE c.frame_indices IS NULL AND u.unusable IS NULL
                          AND (c.end_timestamp < $6 OR $7 AND c.start_timestamp > $5)), '[]') AS strays,
       coalesce(jsonb_agg(jsonb_build_object('id', c.id, 'chunk_index', c.chunk_index, 'reason', u.unusable)
                          ORDER BY c.chunk_index)
                FILTER (WHERE u.unusable IS NOT NULL), '[]') AS quarantined
  FROM (SELECT jsonb_object_keys($2::jsonb) AS name
        UNION SELECT camera_key FROM video_chunk WHERE session_id = $1 AND frame_indices IS NULL) AS named
  LEFT JOIN video_chunk c ON c.session_id = $1 AND c.camera_key = name
  LEFT JOIN video_chunk_use u ON u.id = c.id
 GROUP BY name ORDER BY name
"""


async def camera_accounts(connection: Connection, session: asyncpg.Record) -> list[CameraAccount]:
    """An account for each camera that the session's robot has named;
    `session` is a row of session_overview."""
    frames, fps = session["frames"], session["fps"]
    rows = await connection.fetch(
        ACCOUNTS,
        session["id"],
        session["cameras"],
        frames,
        fps,
        session["last_frame_time"],
        session["start_time"],
        session["status"] != "recording",
    )
    return [
        CameraAccount(
            camera_key=row["name"],
            chunks=row["chunks"],
            missing_chunks=row["missing_chunks"],
            pictures=row["pictures"],
            awaited_from=row["reached"]
            if frames - row["reached"] > SILENT_CAMERA_S * fps or not row["chunks"]
            else None,
            strays=msgspec.json.decode(row["strays"], type=list[StrayVideo]),
            quarantined=msgspec.json.decode(row["quarantined"], type=list[QuarantinedVideo]),
        )
        for row in rows
    ]


def have_arrived(accounts: list[CameraAccount]) -> bool:
    """Whether nothing of any camera is known to be missing, or can't be used."""
    return all(
        account.awaited_from is None and not account.missing_chunks and not account.quarantined
        for account in accounts
    )
