"""What the endpoints answer."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from teleop_runtime.serving.problems import Problem, read_noted
from teleop_schema.identifiers import MAX_ID

from teleop_export.planning.push import PushView
from teleop_export.planning.report import Report
from teleop_export.planning.request import ExportRequest
from teleop_export.planning.stages import STAGES, Content, Stage, Status

# A page is made in memory; `next_cursor` asks for more.
MAX_PAGE = 1000

Id = Annotated[int, Meta(ge=1, le=MAX_ID)]


class StageProgress(Struct, frozen=True, kw_only=True):
    """Frames that a stage has done, of those it has to do; frames that it takes twice count twice.

    data        read from the database and written
    video       pictures copied, or re-encoded, of all cameras
    statistics  read back for exact quantiles
    verify      read back and checked against the format

    stage  its name
    done   frames that it has done
    total  frames that it has to do
    """

    stage: Stage
    done: int
    total: int


class Numbers(Content, frozen=True, kw_only=True):
    """What a finished dataset consists of, and how long its making took.

    videos       files of video
    video_bytes  of the compressed pictures in them
    duration_s   how long its making took, s
    """

    duration_s: float


class CorrectedVideo(Struct, frozen=True, kw_only=True):
    """Video that turned out to hold other pictures than was known.

    chunks  how many of them
    """

    session_id: int
    camera: str
    chunks: int


class ExportView(Struct, kw_only=True):
    """One export.

    fingerprint
               of what was asked and of what the sessions held, SHA-256; a dataset has it in meta/backend.json
    request    what was asked for, with the sessions that it meant
    numbers    once it is done
    error      once it failed
    waits_for  what keeps it from being made now, though it is its turn; null: nothing does
    push       to the Hub, if one was asked for
    video_corrected
               what it was made of and turned out otherwise since it was asked for: pictures may be beside the
               wrong rows, ask for it again
    """

    id: int
    status: Status
    fingerprint: str
    request: ExportRequest
    progress: list[StageProgress]
    numbers: Numbers | None
    error: Problem | None
    waits_for: Problem | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    push: PushView | None
    video_corrected: list[CorrectedVideo]


class ExportDetail(ExportView, kw_only=True):
    """One export with its account.

    report  which frames are in it, which are not, and why
    """

    report: Report


class ExportFilter(Struct, forbid_unknown_fields=True, kw_only=True):
    """Which exports to list: those that all of this is true of.

    status      how far they are
    repo_id     name of the dataset, user/name
    session_id  one of the sessions that they hold frames of
    fingerprint
                `fingerprint` of a dataset's meta/backend.json
    cursor      `next_cursor` of the page before
    limit       exports of a page
    """

    status: Status | None = None
    repo_id: str | None = None
    session_id: Id | None = None
    fingerprint: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")] | None = None
    cursor: Id | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = 100


class ExportPage(Struct, kw_only=True):
    """Exports, newest first; `next_cursor` asks for the following page.

    exports  of this page
    """

    exports: list[ExportView]
    next_cursor: int | None


def view[View: ExportView](row: dict[str, Any], kind: type[View], corrected: list[CorrectedVideo]) -> View:
    """A row of `export` as `kind`; `corrected` are its video_corrected."""
    progress = [{"stage": name, **row["progress"][name]} for name in STAGES if name in row["progress"]]
    push = row["push"] and {**row["push"], "error": read_noted(row["push"]["problem"])}
    told = {
        "progress": progress,
        "error": read_noted(row["problem"]),
        "waits_for": read_noted(row["waits_for"]),
        "push": push,
        "video_corrected": corrected,
    }
    return msgspec.convert({**row, **told}, kind)
