"""Builds a defect into one of the programs that tests start: what the chaos runner has to catch.

Every Python imports this at its start that finds this folder in PYTHONPATH. SABOTAGE names the defect.
"""

import asyncio
import os
import sys
from datetime import UTC, datetime


def forget_what_a_dead_encoder_left() -> None:
    """An encoder removes the pictures that the one before had put into an unfinished file."""
    from lerobot_robot_backend.video import files as video_spool

    found = video_spool.find_parts

    def forget(stream_dir):
        for path in found(stream_dir):
            path.unlink()
        return []

    video_spool.find_parts = forget


def call_stored_what_was_only_begun() -> None:
    """An agent writes receipts of its own, and sends the bytes afterwards."""
    from teleop_client.uploading import Uploader
    from teleop_schema.files import Receipt

    upload, sending = Uploader.upload, set()

    async def begin(self, plan, source, *, advance=lambda _: None):
        task = asyncio.create_task(upload(self, plan, source, advance=advance))
        sending.add(task)
        told = {name: getattr(plan.file, name) for name in ("robot_id", "path", "size_bytes", "sha256")}
        return Receipt(kind="dataset", stored_at=datetime.now(UTC), **told)

    Uploader.upload = begin


def trust_offsets() -> None:
    """A server tells of bytes that it has not, writes where it is told to, and never looks at the whole."""
    from teleop_runtime.store import local, staged_file

    begin, size_of = staged_file.StagedFile.begin_append, local.durable_size

    def begin_where_told(self, offset, checksum, known):
        self.size = offset
        begin(self, offset, checksum, known)

    def more_than_there_is(path):
        size = size_of(path)
        return size + 4096 if size else size

    staged_file.StagedFile.begin_append = begin_where_told
    local.durable_size = more_than_there_is
    local._check_whole = lambda *_: None


def tell_offsets_before_the_disk() -> None:
    """A server tells how much of an upload it has without having synced it."""
    from teleop_runtime.store import staged_file

    staged_file.sync_data = lambda _fd: None


def call_done_what_is_not_published() -> None:
    """A worker marks an export as done, and moves it into place afterwards."""
    from teleop_export.tables.export_table import ExportTable

    publish = ExportTable.publish
    moving = set()

    async def mark_first(self, claim, numbers, report, move):
        async def move_later(published_ns):
            async def later():
                await asyncio.sleep(1)
                await move(published_ns)

            moving.add(asyncio.create_task(later()))

        return await publish(self, claim, numbers, report, move_later)

    ExportTable.publish = mark_first


# Defect -> what the command line of the program has in it.
PROGRAMS = {
    forget_what_a_dead_encoder_left: "lerobot_robot_backend.video.encoder",
    call_stored_what_was_only_begun: "sync-agent",
    trust_offsets: "teleop_video_ingest",
    tell_offsets_before_the_disk: "teleop_video_ingest",
    call_done_what_is_not_published: "teleop_export",
}

for defect, program in PROGRAMS.items():
    if os.environ.get("SABOTAGE") == defect.__name__ and program in " ".join(sys.orig_argv):
        defect()
