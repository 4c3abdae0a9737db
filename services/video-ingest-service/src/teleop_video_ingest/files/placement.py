"""Whether the pictures of a chunk belong to its session, by their times."""

import asyncpg

from teleop_video_ingest.tables.video_table import SessionRow


def outside(session: SessionRow, row: asyncpg.Record) -> str | None:
    """That the chunk's times lie outside its session, and what to do; None if they don't, or don't matter.

    Only time tells which frame goes with a picture if the sender did not. Video of a session that is still
    being recorded may be ahead of its samples, so a chunk is too late only once the session has ended.
    """
    start, end = row["start_timestamp"], row["end_timestamp"]
    if row["frame_indices"] is not None:
        return None
    if end >= session.began and (session.ended is None or start <= session.ended):
        return None
    until = f"to {session.ended.isoformat()}" if session.ended else "on"
    return (
        f"its times ({start.isoformat()} to {end.isoformat()}) lie outside session {session.id} "
        f"({session.began.isoformat()} {until}), so no frame has a picture of it: remove it "
        f"(DELETE /videos/{row['id']}) and send it again with the times of its pictures"
    )
