"""TelemetryClient: keeps a session's samples on the local disk, from where a shipper sends them."""

import logging
import struct
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import msgspec
from teleop_client.credentials import Tokens
from teleop_schema.columns import Column
from teleop_schema.identifiers import check_robot_id
from teleop_schema.messages import Event
from teleop_schema.session import Camera
from teleop_schema.words import counted

from lerobot_robot_backend import arguments
from lerobot_robot_backend.clock import CaptureClock
from lerobot_robot_backend.description import describe, describe_host, make_event
from lerobot_robot_backend.spool.columns import Columns
from lerobot_robot_backend.spool.packer import FramePacker
from lerobot_robot_backend.spool.stream import (
    SpoolError,
    StreamFile,
    StreamProgress,
    check_spool,
    default_spool_dir,
)
from lerobot_robot_backend.spool.values import within_float32
from lerobot_robot_backend.spool.writer import SpoolWriter
from lerobot_robot_backend.standing import Standing
from lerobot_robot_backend.upkeep import Upkeep
from lerobot_robot_backend.video.choice import Video, choose_video
from lerobot_robot_backend.video.files import without_unrecorded

if TYPE_CHECKING:
    from lerobot_robot_backend.video.capture import PictureCounts, VideoCapture

# Left for everything else: a full system disk would stop the robot's own software too.
MIN_FREE_BYTES = 2_000_000_000
Outcome = Literal["success", "failure", "discarded"]

NO_TIMES: Mapping[str, int] = MappingProxyType({})
# How often to look at what other processes have written: short for a person who waits, and a cheap look.
_POLL_S = 0.02

log = logging.getLogger("lerobot_robot_backend")


class TelemetryClient:
    """One session: every sample whose `log()` returned is kept on disk until the server has it.

        with TelemetryClient(url, "robot_A", state_names=names, action_names=names, fps=60) as client:
            client.start_episode("pick the cube")
            client.log(observation, action)
            client.end_episode("success")
        client.drain(timeout_s=10)

    Nothing here waits for the network. `stream_dir` is the session's directory, `logged` the number of frame
    indexes used so far, and `cameras_not_recorded` says for each camera without video why it has none.
    """

    def __init__(
        self,
        backend_url: str,
        robot_id: str,
        *,
        state_names: Sequence[str],
        action_names: Sequence[str],
        fps: float,
        robot_type: str = "unknown",
        task: str | None = None,
        cameras: Mapping[str, Camera] | None = None,
        video: Video | None = None,
        host: Mapping[str, Any] | None = None,
        operator: str | None = None,
        token: str | None = None,
        spool_dir: Path | str | None = None,
        min_free_bytes: int = MIN_FREE_BYTES,
        ship: bool = True,
    ) -> None:
        """Open a session.

        state_names     names in an observation that make up the state vector, in order
        action_names    the same for an action
        fps             declared rate of the loop, Hz
        cameras         names in an observation that are pictures: they become video
        video           "high", "lossless" or "off"; default: LEROBOT_BACKEND_VIDEO, or "high"
        operator        who drives the robot; None: the server learns of nobody
        token           for the backend; default: LEROBOT_BACKEND_TOKEN, or the one from `sync-agent join`
        spool_dir       where samples are kept; default: `default_spool_dir()`
        min_free_bytes  free space that this disk must have for a session to start
        ship            start a process that sends the samples to the server

        Raises ValueError for a bad address, robot_id or description, SpoolError if the spool can't be used.
        """
        self.clock = CaptureClock()
        self.robot_id = check_robot_id(arguments.check_text("robot_id", robot_id))
        self.spool_dir = Path(spool_dir) if spool_dir is not None else default_spool_dir()
        quality = choose_video(video)
        described = describe(
            robot_type=robot_type,
            fps=arguments.check_rate(fps),
            state_names=arguments.check_names("state_names", state_names),
            action_names=arguments.check_names("action_names", action_names),
            started_at_us=self.clock.started_us,
            cameras=arguments.check_mapping("cameras", cameras, arguments.CAMERAS),
            task=task,
            host={**describe_host(), **arguments.check_mapping("host", host)},
            **({} if operator is None else {"operator": arguments.check_text("operator", operator)}),
        )
        self._session, self.cameras_not_recorded = without_unrecorded(described, quality)
        description = StreamFile.new(robot_id, backend_url, self._session)
        self._packer = FramePacker(self._session, described.cameras)
        self._columns = Columns()
        self._episode_index = -1
        self._episode_open = False
        # Before anything is made: a session that can't be recorded leaves no folder behind.
        check_spool(self.spool_dir, robot_id, min_free_bytes)
        self._writer = SpoolWriter(self.spool_dir, description)
        self.stream_dir = self._writer.stream_dir
        self._standing = Standing(self._writer, self.spool_dir)
        self._video = self._open_video(quality)
        tokens = Tokens((backend_url, token)) if token else Tokens.of_environment(backend_url)
        self._upkeep = Upkeep(self._writer, self.spool_dir, tokens, ship=ship, video=self._video)

    @property
    def logged(self) -> int:
        """Frame indexes used so far."""
        return self._writer.next_index

    @property
    def acknowledged(self) -> int:
        """How many frames are durable on the server."""
        return min(self.progress.next, self.logged)

    @property
    def session_id(self) -> int | None:
        """The server's number of this session; None until the server has answered once."""
        return self.progress.session_id

    @property
    def progress(self) -> StreamProgress:
        """How far the session is, and what prevents recording or sending it; reads two files."""
        progress = self._standing.progress
        trouble = progress.trouble or self._upkeep.trouble
        return msgspec.structs.replace(progress, trouble=trouble)

    @property
    def shipper_pid(self) -> int | None:
        """The process that sends this session, None if there is none."""
        return self._upkeep.shipper_pid

    def log(
        self,
        observation: Mapping[str, Any],
        action: Mapping[str, Any],
        *,
        sent_action: Mapping[str, Any] | None = None,
        extra: Mapping[str, Any] | None = None,
        columns: Mapping[str, Any] | None = None,
        captured_us: int | None = None,
        observation_age_us: int = 0,
        picture_us: Mapping[str, int] = NO_TIMES,
    ) -> int:
        """Record one frame and return its index.

        observation  name -> value, for example degrees of "shoulder_pan.pos"; kept as float32, as LeRobot
                     would: True is 1, a missing value or None is NaN; the ledger counts values that are not
                     finite
        action       name -> value: what the robot was told to do; {}: the robot was only observed
        sent_action  what the robot really did; kept if it differs
        extra        anything else worth keeping; names that the session does not have are kept here too
        columns      name -> number or array, for example {"next.reward": 0.5}: kept to the last bit, in the
                     dtype and shape that the name had first (or was declared with); a value that does not
                     fit goes to `extra`
        captured_us  us since the Unix epoch by `clock`; None: now
        observation_age_us
                     for an action without a new observation: how long before `captured_us` the repeated
                     observation was taken. Such frames are marked, and make no rows: a dataset must not
                     combine an old observation with a new action
        picture_us   camera -> when its picture in the observation was taken, by the same clock; default: the
                     frame's time. A picture is (height, width, 3) uint8, RGB; depth is (height, width)
                     uint16 in mm or float32 in m; a picture that equals the last one is recorded once

        Raises ValueError naming the value that is not a number, SpoolError if the disk is full; then the
        frame's index is used up, and the server gets a gap with the reason. Also raises ValueError for an
        argument of the wrong type; then nothing has happened.
        """
        if captured_us is None:
            captured_us = self.clock.now_us()
        # Whether this call used up an index, whatever it raises.
        before, packed = self.logged, b""
        try:
            if columns:
                packed, extra = self._columns.pack(columns, extra, tell=self._tell_column)
            return self._append(
                observation, action, sent_action, extra, packed, captured_us, observation_age_us
            )
        except (AttributeError, IndexError, TypeError, struct.error):
            # Checked only after an error: the check takes as long as all the rest.
            beside = {"extra": extra, "columns": columns}
            arguments.check_frame(observation, action, beside, captured_us, observation_age_us)
            raise
        finally:
            # Even if the frame became a gap: its pictures are good.
            if self._video is not None and self.logged > before:
                self._video.offer(self.logged - 1, captured_us, observation, picture_us)

    def lose(self, reason: str, count: int = 1) -> None:
        """Tell the server that `count` frames that should be here are missing, and why."""
        arguments.check_text("reason", reason)
        self._writer.append_gap(
            arguments.check_whole("count", count, "how many frames are missing", least=1), reason
        )

    def start_episode(self, task: str | None = None, *, first_frame: int | None = None) -> int:
        """Begin an episode at the next frame (or at `first_frame`); returns its number, counted from 0.

        An episode that is still open is ended first. On a full disk this waits in memory for room; raises
        SpoolError if too much does.
        """
        first = self.logged if first_frame is None else first_frame
        if self._episode_open:
            self.end_episode(end_frame=first)
        self._tell(kind="episode_start", frame_index=first, episode_index=self._episode_index + 1, task=task)
        # After it was told: one that could not be told does not exist, and its number is free.
        self._episode_index += 1
        self._episode_open = True
        return self._episode_index

    def change_task(self, task: str, *, first_frame: int | None = None) -> None:
        """Say that the open episode continues with another task, from the next frame (or `first_frame`)
        on."""
        if self._episode_open:
            first = self.logged if first_frame is None else first_frame
            self._tell(kind="episode_task", frame_index=first, episode_index=self._episode_index, task=task)

    def end_episode(
        self, outcome: Outcome | None = None, *, note: str | None = None, end_frame: int | None = None
    ) -> None:
        """End the open episode after the last frame (or before `end_frame`); does nothing if none is open.

        outcome  success, failure, discarded; None: not judged
        """
        if outcome is not None and outcome not in get_args(Outcome):
            raise ValueError(f"outcome is {outcome!r}, not one of {', '.join(get_args(Outcome))}")
        if not self._episode_open:
            return
        self._episode_open = False
        end = self.logged if end_frame is None else end_frame
        about = {"episode_index": self._episode_index, "outcome": outcome, "note": note}
        self._tell(kind="episode_end", frame_index=end, **about)

    def pause_episode(self, first_frame: int, end_frame: int | None = None) -> None:
        """Say that frames `first_frame` to `end_frame - 1` lie within the open episode but do not belong to
        it: they become no rows of a dataset, and the rows before and after follow each other. Without
        `end_frame` the pause lasts: say it again with its end, or the episode ended at `first_frame`."""
        if self._episode_open:
            told = {"frame_index": first_frame, "end_frame": end_frame}
            self._tell(kind="episode_pause", episode_index=self._episode_index, **told)

    def declare_column(self, name: str, dtype: str, shape: Sequence[int], names: Any = None) -> None:
        """Declare a column, whose values `log` accepts from now on; repeating the call changes nothing.

        dtype, shape, names  as in a feature of a LeRobot dataset; a bool or number type of numpy, shape
                             (1,) for a single number

        Raises ValueError naming what is wrong, SpoolError if the disk has been full for too long.
        """
        if (column := self._columns.declare(name, dtype, shape, names)) is not None:
            self._tell_column(column)

    def tell_not_recorded(self, feature: str, why: str) -> None:
        """Say that the dataset recorded together with this session has a feature that the session lacks, or
        has in another form: exports say so in their reports and cards."""
        self._tell(kind="not_recorded", frame_index=self.logged, feature=feature, note=why)

    def mark(self, note: str) -> None:
        """Leave a note at the next frame."""
        self._tell(kind="mark", frame_index=self.logged, note=note)

    def close(self) -> None:
        """End the session; what the server lacks is still sent. Calling it again changes nothing."""
        # First, or it would start an encoder again that has ended because the session has.
        self._upkeep.stop()
        if self._video is not None and not self._writer.closed:
            self._video.close()
            self._leave_out(self._video.unrecorded())
        if not self._writer.closed:
            # Only at the end of the session, not at a second call.
            self._standing.note_closed()
        self._writer.close()

    def drain(self, timeout_s: float) -> int:
        """Wait until the server has every frame (after `close()`: the whole session);
        returns the number of frames.

        Raises TimeoutError that says how far it got and what prevents the rest; nothing is lost then.
        """
        deadline_s = time.monotonic() + timeout_s
        while True:
            progress = self.progress
            if progress.next >= self.logged and (progress.ended or not self._writer.closed):
                return self.logged
            if time.monotonic() >= deadline_s:
                frames = counted(self.logged, "frame")
                raise TimeoutError(
                    f"{self.acknowledged} of {frames} acknowledged after {timeout_s:g} s"
                    + (f": {progress.trouble}" if progress.trouble else "")
                    + ("" if self._standing.why_lost else f"; the rest is kept in {self.stream_dir}")
                )
            time.sleep(_POLL_S)

    def summary(self) -> str:
        """What is safe where, and what to do if nothing sends it: lines for people, up to three."""
        if why_lost := self._standing.why_lost:
            return f"{counted(self.logged, 'frame')} logged; {why_lost}"
        progress, of_processes = self.progress, self._upkeep.trouble
        line = progress.summary(self.logged, self.stream_dir, self.shipper_pid, of_processes=of_processes)
        commands = " and ".join(self._upkeep.commands_for_unsent(all_samples=progress.ended))
        return f"{line}\nnothing sends the rest now, unless you run {commands}" if commands else line

    def wait_for_encoder(self, timeout_s: float) -> bool:
        """Whether the encoder runs, after at most this time; earlier pictures wait in memory for 2 s."""
        return self._video is None or self._video.wait_attended(timeout_s)

    def pictures(self, timeout_s: float = 0.0) -> "dict[str, PictureCounts]":
        """Camera -> how many pictures were recorded and dropped; after `close()`, waits this long for the
        last."""
        if self._video is None:
            return {}
        if self._writer.closed:
            self._video.wait_encoded(timeout_s)
        return self._video.counts()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _append(
        self,
        observation: Mapping[str, Any],
        action: Mapping[str, Any],
        sent_action: Mapping[str, Any] | None,
        extra: Mapping[str, Any] | None,
        packed: bytes,
        captured_us: int,
        observation_age_us: int,
    ) -> int:
        try:
            values, whole = self._packer.values(observation, action)
        except ValueError as error:
            self._writer.append_gap(1, str(error))
            raise
        tail = self._packer.beyond(
            observation,
            action,
            sent_action,
            extra,
            columns=packed,
            observation_age_us=observation_age_us,
            whole=whole,
        )
        try:
            return self._writer.append_frame(captured_us, values, tail)
        except OverflowError:
            return self._writer.append_frame(captured_us, within_float32(values), tail)

    def _open_video(self, quality: Video) -> "VideoCapture | None":
        if self._session.cameras and quality != "off":
            # imports numpy, which sessions without video do not need
            from lerobot_robot_backend.video.capture import VideoCapture

            try:
                return VideoCapture(self.stream_dir, self._session, quality)
            except OSError as error:
                log.warning("backend: no video is recorded: %s", error)
                self._leave_out(dict.fromkeys(self._session.cameras, f"no video is recorded: {error}"))
        return None

    def _leave_out(self, cameras: Mapping[str, str]) -> None:
        """Report the cameras without video and the reason, so that nobody waits for their video."""
        self.cameras_not_recorded |= cameras
        for name, why in cameras.items():
            with suppress(SpoolError):  # the disk is full; samples matter more
                self._tell(kind="no_video", frame_index=self.logged, camera=name, note=why)

    def _tell(self, **fields: Any) -> None:
        self._writer.append_event(make_event(fields))

    def _tell_column(self, column: Column) -> None:
        self._writer.append_event(Event(kind="column", frame_index=self.logged, column=column))
        self._columns.add(column)
