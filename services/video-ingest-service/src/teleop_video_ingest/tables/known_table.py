"""Finds what robots have confirmed but is not complete here.
Every function works on its caller's connection."""

from collections.abc import Sequence
from itertools import groupby
from uuid import UUID

from teleop_runtime.postgres.pool import Connection
from teleop_schema.holding import HeldFrames, HeldVersion, HeldVideo, OvertakenVersion, ranges_of

INSTALLATION = "SELECT id FROM installation"

# Damaged bytes must be sent again just like missing ones.
LACKING_VERSIONS = """
SELECT DISTINCT held.dataset, held.manifest_sha256
  FROM unnest($2::text[], $3::text[]) AS held(dataset, manifest_sha256)
 WHERE NOT EXISTS (
       SELECT FROM dataset d JOIN dataset_version v ON v.dataset_id = d.id
        WHERE d.robot_id = $1 AND d.name = held.dataset AND v.manifest_sha256 = held.manifest_sha256
          AND NOT EXISTS (SELECT FROM dataset_version_file f JOIN stored_object o USING (sha256)
                           WHERE f.version_id = v.id AND o.damage IS NOT NULL))
"""

# Repairs are made of what a robot has sent, so they overtake nothing.
OVERTAKEN_VERSIONS = """
SELECT DISTINCT held.dataset, held.manifest_sha256, newest.version
  FROM unnest($2::text[], $3::text[]) AS held(dataset, manifest_sha256)
  JOIN dataset d ON d.robot_id = $1 AND d.name = held.dataset
  JOIN dataset_version mine ON mine.dataset_id = d.id AND mine.manifest_sha256 = held.manifest_sha256
 CROSS JOIN LATERAL (
       SELECT v.version, v.manifest_sha256 FROM dataset_version v
        WHERE v.dataset_id = d.id AND v.source = 'robot'
        ORDER BY v.created_at DESC, v.version DESC LIMIT 1) AS newest
 WHERE newest.manifest_sha256 <> held.manifest_sha256
"""

LACKING_CHUNKS = """
SELECT held.position, number
  FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[])
       AS held(stream, camera_key, first_chunk, end_chunk, position)
       CROSS JOIN generate_series(held.first_chunk, held.end_chunk - 1) AS number
       LEFT JOIN teleop_session s ON s.stream_id = held.stream AND s.robot_id = $6
 WHERE NOT EXISTS (SELECT FROM video_chunk c JOIN stored_object o USING (sha256)
                    WHERE c.session_id = s.id AND c.camera_key = held.camera_key
                      AND c.chunk_index = number AND o.damage IS NULL)
 ORDER BY 1, 2
"""

# Of a session whose archived frames are lost, there is none.
LACKING_FRAMES = """
SELECT held.stream, coalesce(here.frames, 0), held.ended
  FROM unnest($1::uuid[], $2::bigint[], $3::boolean[]) AS held(stream, frames, ended)
  LEFT JOIN (SELECT s.stream_id, s.status,
                    CASE WHEN a.damage IS NULL THEN s.next_frame_index ELSE 0 END AS frames
               FROM teleop_session s
               LEFT JOIN session_archive a ON a.session_id = s.id AND a.dropped_at IS NOT NULL
              WHERE s.robot_id = $4) AS here
         ON here.stream_id = held.stream
 WHERE here.stream_id IS NULL OR here.frames < held.frames OR (held.ended AND here.status = 'recording')
"""


async def installation(connection: Connection) -> UUID:
    """Name of the database."""
    name: UUID = await connection.fetchval(INSTALLATION)
    return UUID(str(name))


async def lacking_versions(
    connection: Connection, robot_id: str, held: Sequence[HeldVersion]
) -> list[HeldVersion]:
    """The versions that are not here, or in which a file is damaged."""
    names, digests = [each.dataset for each in held], [each.manifest_sha256 for each in held]
    rows = await connection.fetch(LACKING_VERSIONS, robot_id, names, digests)
    return sorted(HeldVersion(*row) for row in rows)


async def overtaken_versions(
    connection: Connection, robot_id: str, held: Sequence[HeldVersion]
) -> list[OvertakenVersion]:
    """The versions that are here, and after which other content came under their name."""
    names, digests = [each.dataset for each in held], [each.manifest_sha256 for each in held]
    rows = await connection.fetch(OVERTAKEN_VERSIONS, robot_id, names, digests)
    return sorted(OvertakenVersion(*row) for row in rows)


async def lacking_videos(connection: Connection, robot_id: str, held: Sequence[HeldVideo]) -> list[HeldVideo]:
    """For each camera of the robot, the chunks that are not here, or are damaged."""
    ranges = [
        (video.stream, video.camera_key, first, end, position)
        for position, video in enumerate(held)
        for first, end in video.chunks
    ]
    columns = map(list, zip(*ranges, strict=True))
    rows = await connection.fetch(LACKING_CHUNKS, *columns, robot_id) if ranges else []
    return [
        HeldVideo(held[position].stream, held[position].camera_key, ranges_of([row[1] for row in lacking]))
        for position, lacking in groupby(rows, key=lambda row: row[0])
    ]


async def lacking_frames(
    connection: Connection, robot_id: str, held: Sequence[HeldFrames]
) -> list[HeldFrames]:
    """The streams of the robot that have fewer frames here, or have not ended here."""
    told = [each.stream for each in held], [each.frames for each in held], [each.ended for each in held]
    rows = await connection.fetch(LACKING_FRAMES, *told, robot_id)
    return [HeldFrames(UUID(str(row[0])), row[1], row[2]) for row in rows]
