"""Paths of files in the readable tree below the backup folder; pure."""

from teleop_schema.identifiers import SESSIONS_FOLDER

# Six digits, so that names sort by number; a million segments of ten seconds are four months.
CHUNK_DIGITS = 6


def video_path(robot_id: str, session_id: int, camera_key: str, chunk_index: int) -> str:
    """`<robot_id>/sessions/<session>/<camera>/<chunk, 6 digits>.mp4`."""
    return f"{robot_id}/{SESSIONS_FOLDER}/{session_id}/{camera_key}/{chunk_index:0{CHUNK_DIGITS}d}.mp4"


def dataset_path(robot_id: str, dataset: str, path: str) -> str:
    """`<robot_id>/<dataset>/<path>`."""
    return f"{robot_id}/{dataset}/{path}"
