"""The account of an export as text for people. Pure."""

from collections.abc import Iterator

from teleop_runtime.serving.problems import Problem
from teleop_schema.words import counted, shown, told_cut_off, told_frames

from teleop_export.planning.played import EpisodeTime
from teleop_export.planning.report import CameraReport, ColumnReport, SessionReport
from teleop_export.planning.views import ExportDetail


def report_text(export: ExportDetail) -> str:
    """What was asked for, what became of it, and where every recorded frame is; robots have named what is
    in it, and people read it in terminals."""
    return "\n".join(map(shown, [*_head(export), *_ledger(export), ""]))


def _head(export: ExportDetail) -> Iterator[str]:
    yield f"export {export.id}: {export.request.repo_id}, {export.status}"
    yield f"asked for {export.created_at:%Y-%m-%d %H:%M:%S %Z}"
    if export.numbers is not None:
        numbers = export.numbers
        counts = [
            (numbers.episodes, "episode"),
            (numbers.frames, "frame"),
            (numbers.tasks, "task"),
            (numbers.videos, "video"),
            (numbers.files, "file"),
            (numbers.size_bytes, "byte"),
        ]
        made = [counted(count, noun) for count, noun in counts if count or noun != "episode"]
        yield f"{', '.join(made)}, made in {numbers.duration_s:.1f} s"
    if export.error is not None:
        yield f"failed: {_with_hint(export.error)}"
    if export.waits_for is not None:
        yield f"waiting: {_with_hint(export.waits_for)}"
    for video in export.video_corrected:
        yield (
            f"made from video whose pictures were later corrected: session {video.session_id}, camera "
            f"{video.camera}, {counted(video.chunks, 'chunk')}; request the export again"
        )
    if export.push is not None:
        push = export.push
        told = push.commit_url or (push.error.detail if push.error is not None else "")
        yield f"push to the Hub: {push.status}{': ' if told else ''}{told}"


def _with_hint(problem: Problem) -> str:
    return f"{problem.detail}; {problem.hint}" if problem.hint else problem.detail


def _ledger(export: ExportDetail) -> Iterator[str]:
    report = export.report
    yield ""
    yield f"{report.committed} committed - {report.excluded} excluded = {report.exported} exported"
    if report.fps is not None:
        yield f"{report.fps} rows per second"
    for column in report.columns:
        yield from _column(column)
    for session in report.sessions:
        yield from _session(session)
    for camera in report.cameras:
        yield from _camera(camera)


def _column(column: ColumnReport) -> Iterator[str]:
    unfit = f", not finite in {counted(column.not_finite, 'row')}" if column.not_finite else ""
    yield f"column {column.name}: {column.dtype} {column.shape}{unfit}"


def _session(session: SessionReport) -> Iterator[str]:
    left_out = sum(excluded.frames for excluded in session.excluded)
    yield ""
    yield (
        f"session {session.session_id}: {session.committed} committed - {left_out} excluded = "
        f"{session.exported} exported"
        + (f", in {counted(session.episodes, 'episode')}" if session.episodes else "")
    )
    if session.measured_hz is not None:
        measured, declared = f"{session.measured_hz:.2f}", session.declared_fps
        beside = "as declared" if measured == f"{declared:.2f}" else f"instead of the declared {declared:g}"
        yield f"  its loop ran at {measured} Hz, {beside}"
    if session.times_not_told:
        untold = counted(session.times_not_told, "frame")
        yield f"  times: {untold} came without a time, and got that of the arrival"
    if session.implausible:
        yield (
            f"  times: {counted(session.implausible, 'frame')} with a time before 2000, or more than a day "
            "after it was stored: check the robot's clock"
        )
    for time in session.times:
        yield from _time(time)
    for episode in session.cut_off:
        yield f"  {told_cut_off(session.session_id, episode)}"
    for excluded in session.excluded:
        some = told_frames(excluded.first_frame, excluded.end_frame, excluded.frames)
        yield f"  left out: {_episode(excluded.episode_index)}{some}: {excluded.reason}"
    for column in session.columns_left_out:
        yield f"  column left out: {column.name}: {column.reason}; {column.hint}"
    if session.refused:
        yield (
            f"  refused: the server refused {counted(session.refused, 'frame')} when they were sent, and did "
            f"not store them: they are not in the export (GET /sessions/{session.session_id}/ledger has why)"
        )
    if session.pictures_left_out:
        yield (
            f"  pictures left out: of camera {', '.join(session.pictures_left_out)}: "
            f"GET /sessions/{session.session_id}/videos has them"
        )
    for lacking in session.not_recorded:
        yield f"  not recorded: {lacking.name}: {lacking.reason}"
    for gap in session.gaps:
        yield (
            f"  split: {_episode(gap.episode_index)}frames {gap.first_frame} to {gap.end_frame - 1} are "
            f"missing: {gap.reason}"
        )


def _time(time: EpisodeTime) -> Iterator[str]:
    measured = "" if time.measured_hz is None else f" at {time.measured_hz:.2f} Hz"
    named = _episode(time.episode_index)
    yield (
        f"  time: {named}frames {time.first_frame} to {time.end_frame - 1}, recorded{measured}: "
        f"{time.recorded_s:.2f} s, in the dataset {time.dataset_s:.2f} s"
    )
    for stall in time.stalls:
        yield (
            f"  stall: {named}{stall.seconds:.2f} s from frame {stall.after_frame} to {stall.next_frame}, "
            "which are consecutive rows in the dataset"
        )
    for slow in time.slow:
        yield (
            f"  slow: {named}frames {slow.first_frame} to {slow.last_frame} were recorded at "
            f"only {slow.measured_hz:.2f} Hz, and play back faster than that"
        )
    if time.shared_times:
        yield (
            f"  times: {named}{counted(time.shared_times, 'frame')} with the time of another frame: "
            "treated as evenly spaced"
        )


def _camera(camera: CameraReport) -> Iterator[str]:
    yield ""
    yield (
        f"camera {camera.camera}: {counted(camera.recorded, 'picture')} recorded, {camera.used} used, "
        f"{camera.unused} unused"
    )
    if camera.repeated:
        yield (
            f"  {counted(camera.repeated, 'row')} with the same picture as the row before, "
            f"{camera.stood_in} of them for lack of a picture of their own"
        )
    yield f"  {counted(camera.copied, 'episode')} copied bit for bit, {len(camera.encoded)} re-encoded"
    for encoded in camera.encoded:
        yield f"  re-encoded: episode {encoded.episode_index}: {encoded.reason}"


def _episode(index: int | None) -> str:
    return "" if index is None else f"episode {index}, "
