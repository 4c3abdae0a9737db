"""Looks into video files that may be anything."""

import asyncio
import io
import os
import signal
import struct
import sys
from fractions import Fraction

import av
import pytest
from teleop_testing.datasets.edit_lists import edited
from teleop_testing.datasets.files import (
    dying_of,
    encode_depth,
    encode_video,
    growing_video,
    hide_first,
    sha256_of,
    turn_over,
    video_file,
)
from teleop_video_ingest.files import probe
from teleop_video_ingest.metrics import PROBES
from teleop_video_ingest.model.worker_messages import Probed


@pytest.fixture
def look(store, prober, keep):
    """What the prober says of some bytes."""

    async def look(content: bytes, *, told: int | None = None, **about: object) -> Probed:
        await keep(content)
        indices = None if told is None else range(told)
        return await prober.look(store, video_file(content, 1, indices=indices, **about))

    return look


async def test_a_sound_video_is_described(look):
    """Pictures, keyframes, rate, codec and size as the file has them."""
    found = await look(encode_video(30), told=30)
    assert found == Probed(
        frames=30, keyframes=15, fps=30.0, codec="h264", pix_fmt="yuv420p", width=64, height=48
    )


async def test_lerobots_own_codec_is_looked_into_too(look):
    """AV1, by the name of the format."""
    found = await look(encode_video(10, codec="libsvtav1"), told=10)
    assert (found.codec, found.frames, found.keyframes, found.problem) == ("av1", 10, 5, None)


async def test_depth_is_looked_into_too(look):
    """12 bits of one channel; what calls itself depth and is something else is no usable video."""
    found = await look(encode_depth(10), told=10, depth_unit="mm")
    assert (found.codec, found.pix_fmt, found.keyframes, found.problem) == ("hevc", "gray12le", 10, None)
    found = await look(encode_video(10), told=10, depth_unit="mm")
    assert found.problem == "depth is hevc gray12le but this is h264 yuv420p"


async def test_a_single_picture_is_a_video(look):
    """It has no rate."""
    found = await look(encode_video(1), told=1)
    assert (found.frames, found.fps, found.problem) == (1, None, None)


async def test_video_that_shows_a_part_of_what_it_holds(look):
    """Cut at its beginning and its end, after a pause: the pictures that are shown are its pictures."""
    content = edited(encode_video(30), [(15, None), (9, 4)])
    found = await look(content, told=9)
    assert (found.frames, found.fps, found.problem) == (9, 30.0, None)


async def test_video_of_several_parts_is_not_used(look):
    """What it shows depends on the player; the reason says what to do."""
    found = await look(edited(encode_video(30), [(10, 0), (10, 15)]), told=20)
    assert found.problem == (
        "its edit list has 2 parts, which players show in different ways; write it again as one "
        "(ffmpeg -i edited.mp4 plain.mp4)"
    )


@pytest.mark.parametrize(
    ("later", "problem"),
    [
        ((4096, 4096), "the last frames can't be decoded"),
        ((64, 64), "a picture is 64x64, but the file declares 64x48"),
    ],
)
async def test_a_picture_larger_than_declared(look, later, problem):
    """The decoder is given no memory for it."""
    found = await look(growing_video([(48, 64)] * 3 + [later]), told=4)
    assert found.looked
    assert found.problem.startswith(problem)


async def test_a_codec_that_is_not_decoded(look):
    """The problem names those that are."""
    content = io.BytesIO()
    with av.open(content, "w", format="mp4") as output:
        stream = output.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        output.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        output.mux(stream.encode())
    found = await look(content.getvalue(), told=1)
    assert found.problem == "its pictures are mpeg4; known are h264, hevc, av1, vp9, mjpeg, ffv1"


def without_regular_times() -> bytes:
    content = io.BytesIO()
    with av.open(content, "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(20):
            picture = av.VideoFrame(64, 48, "yuv420p")
            picture.time_base = Fraction(1, 30)
            picture.pts = number + (10 if number > 9 else 0)
            output.mux(stream.encode(picture))
        output.mux(stream.encode())
    return content.getvalue()


def sound_only() -> bytes:
    content = io.BytesIO()
    with av.open(content, "w", format="mp4") as output:
        stream = output.add_stream("aac", rate=44_100)
        silence = av.AudioFrame(format="fltp", layout="mono", samples=1024)
        silence.sample_rate = 44_100
        for plane in silence.planes:
            plane.update(bytes(plane.buffer_size))
        output.mux(stream.encode(silence))
        output.mux(stream.encode())
    return content.getvalue()


def with_size(width: int, height: int) -> bytes:
    """A video whose headers tell another size of picture."""
    content = encode_video(2)
    at = content.index(b"avc1") + 28
    return content[:at] + struct.pack(">HH", width, height) + content[at + 4 :]


FASTSTART = {"movflags": "faststart"}


@pytest.mark.parametrize(
    ("content", "told", "reason"),
    [
        (b"<html><body>Not found</body></html>" * 20, None, "not a readable mp4"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", None, "not a readable mp4"),
        (b"\0", None, "not a readable mp4"),
        (encode_video(30)[:-3000], None, "not a readable mp4"),
        (encode_video(30, container=FASTSTART)[:-3000], None, "it was cut off: it lists 30 frames"),
        (encode_video(30, container=FASTSTART)[:-10], None, "the last frames can't be decoded"),
        (encode_video(30), 29, "its sender announced 29 frames, but the file holds 30"),
        (without_regular_times(), None, "frames are not evenly spaced"),
        (sound_only(), None, "it has 0 video streams"),
    ],
    ids=["html", "playlist", "one byte", "no moov", "cut", "cut a little", "count", "irregular", "sound"],
)
async def test_what_is_no_usable_video_has_a_reason(look, content, told, reason):
    """In words that tell its sender what is wrong."""
    found = await look(content, told=told)
    assert found.problem is not None
    assert reason in found.problem


async def test_tables_that_only_ffmpeg_reads_are_no_usable_video(look):
    """An export reads them itself, and would end with it."""
    content = encode_video(30)
    at = content.index(b"stco") + 8
    found = await look(content[:at] + (0x7FFFFFFF).to_bytes(4, "big") + content[at + 4 :], told=30)
    assert (found.problem, found.looked) == ("a table of the mp4 is cut off", True)


async def test_only_pictures_that_are_shown_count(look):
    """What was cut without being encoded still holds those that the shown ones build upon."""
    found = await look(hide_first(encode_video(30), 3), told=27)
    assert (found.frames, found.fps, found.problem) == (27, 30.0, None)


async def test_a_video_that_players_turn_is_refused(look):
    """A dataset's pictures would lie upside down; the reason says what to do."""
    found = await look(turn_over(encode_video(30)), told=30)
    assert "rotate its pictures by 180 degrees" in found.problem


@pytest.mark.parametrize(
    ("span_s", "sound"), [(0, True), (0.9, True), (1, True), (2, True), (2.1, False), (10, False)]
)
async def test_a_span_that_is_none_of_its_pictures_is_refused(look, span_s, sound):
    """Thirty pictures at 30 a second take a second, not ten. A camera slower than its file says may be."""
    file = encode_video(30)
    found = await look(file, start_us=0, end_us=round(span_s * 1_000_000))
    assert (found.problem is None) == sound
    assert sound or "it lasts 1.00 s" in found.problem


async def test_a_span_tells_nothing_beside_each_pictures_time(look):
    """Those are what counts."""
    assert (await look(encode_video(30), told=30, start_us=0, end_us=10_000_000)).problem is None


async def test_damaged_first_frames_are_found(look):
    """Though all of the file is there."""
    content = encode_video(30, container=FASTSTART)
    start = content.index(b"mdat") + 4 + 800
    found = await look(content[:start] + bytes(3000) + content[start + 3000 :])
    assert found.problem is not None


async def test_a_huge_picture_harms_nobody(look):
    """65535x65535 would be 6 GiB a picture: a problem of the file, not of the service."""
    found = await look(with_size(65535, 65535))
    assert (await look(encode_video(2, seed=1))).problem is None
    assert found.frames is None or found.frames <= 2


async def test_random_damage_is_an_answer_at_most(look):
    """Whatever byte is wrong, there is an answer, and the next file is looked into."""
    content = encode_video(4, container=FASTSTART)
    for position in range(8, len(content), max(1, len(content) // 40)):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        await look(bytes(damaged))
    assert (await look(encode_video(4, seed=1))).problem is None


async def test_a_killed_worker_is_not_the_files_fault(look, prober):
    """Another one answers."""
    assert (await look(encode_video(2))).problem is None
    (worker,) = prober._idle
    os.kill(worker._process.pid, signal.SIGKILL)
    assert (await look(encode_video(2, seed=1))).problem is None


async def test_a_worker_that_hangs_is_given_up(look, prober, monkeypatch):
    """Of a file that nobody had time for nothing is said yet; the next one is looked into."""
    assert (await look(encode_video(2))).problem is None
    monkeypatch.setattr(probe, "PROBE_TIMEOUT_S", 0.000_001)
    found = await look(encode_video(2, seed=1))
    assert found == Probed(problem="not checked yet: it took more than 0 seconds", looked=False)
    monkeypatch.undo()
    assert (await look(encode_video(2, seed=2))).problem is None


@pytest.mark.parametrize(
    ("number", "found"),
    [
        (
            signal.SIGKILL,
            Probed(problem="not checked yet: the process was killed (SIGKILL)", looked=False),
        ),
        (
            signal.SIGTERM,
            Probed(problem="not checked yet: the process was killed (SIGTERM)", looked=False),
        ),
        (signal.SIGSEGV, Probed(problem="the decoder crashed on it (SIGSEGV)")),
        (signal.SIGABRT, Probed(problem="the decoder crashed on it (SIGABRT)")),
    ],
)
async def test_only_a_crash_is_a_verdict(look, monkeypatch, number, found):
    """Who is killed by the machine, or by somebody, has said nothing of the file."""
    monkeypatch.setattr(probe, "WORKER", dying_of(number))
    assert await look(encode_video(2)) == found


BROKEN = """
from teleop_video_ingest.files import probe_worker
{fault}
probe_worker.main()
"""
RAISES = """
examine = probe_worker._examine
def stumble(file, container, found):
    examine(file, container, found)
    if found["width"] > 1000:
        {"known": 1}["unknown"]
probe_worker._examine = stumble
"""
ENDS = "import os; probe_worker._examine = lambda *about: os._exit(3)"
BLIND = "probe_worker._judge = lambda *about: probe_worker.Probed(problem='not a readable mp4')"
BAD_DISK = """
import errno
judge = probe_worker._judge
def fail(file, size=-1):
    raise OSError(errno.EIO, "Input/output error")
def judge_without(file, told):
    if len(asked) > 1:
        probe_worker.HandedFile.read = fail
    asked.append(file)
    return judge(file, told)
asked = []
probe_worker._judge = judge_without
"""
LITTLE_MEMORY = """
import resource
judge = probe_worker._judge
asked = []
def judge_without(file, told):
    if len(asked) > 1:
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (probe_worker.taken_bytes() + 2**20, hard))
    asked.append(file)
    return judge(file, told)
probe_worker._judge = judge_without
"""


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (RAISES, "the check failed at <string>:8: KeyError('unknown')"),
        (ENDS, "the check does not work here: the process ended (exit code 3)"),
        ("raise SystemExit(1)", "the check does not work here: the process ended (exit code 1)"),
        (BLIND, "the check does not work here: sound video fails it, too (not a readable mp4)"),
        (BAD_DISK, "the file can't be read: Input/output error"),
        (LITTLE_MEMORY, "the machine has no memory left for it"),
    ],
    ids=["raises", "ends", "can't start", "blind", "bad disk", "little memory"],
)
async def test_what_fails_here_is_no_verdict(look, monkeypatch, fault, reason):
    """Whoever sent the file can do nothing about it: it waits for the check."""
    monkeypatch.setattr(probe, "WORKER", (sys.executable, "-c", BROKEN.format(fault=fault)))
    content = encode_video(2, width=1920, height=1080)
    assert await look(content) == Probed(problem=f"not checked yet: {reason}", looked=False)


async def test_a_worker_that_is_gone_before_it_is_asked(look, monkeypatch):
    """Its end of the socket is closed."""
    monkeypatch.setattr(probe, "WORKER", ("sh", "-c", "echo {}; kill -9 $$"))
    found = await look(encode_video(2))
    assert (found.problem, found.looked) == ("not checked yet: the process was killed (SIGKILL)", False)


async def test_many_at_once_share_a_few_processes(look, prober):
    """No more than MAX_WORKERS, which are used again."""
    contents = [encode_video(2, seed=seed) for seed in range(8)]
    found = await asyncio.gather(*(look(content) for content in contents))
    assert all(each.problem is None for each in found)
    assert 1 <= len(prober._idle) <= probe.MAX_WORKERS


SLOW = """
import resource
judge = probe_worker._judge
asked = []
def judge_slowly(file, told):
    if len(asked) > 1:
        {work}
    asked.append(file)
    return judge(file, told)
probe_worker._judge = judge_slowly
"""
FOREVER = SLOW.format(work="while True: pass")


async def test_what_takes_too_long_is_checked_once_more_with_all_its_time(look, prober, store, monkeypatch):
    """The first check is no verdict, the second one is; neither is tried twice."""
    monkeypatch.setattr(probe, "WORKER", (sys.executable, "-c", BROKEN.format(fault=FOREVER)))
    monkeypatch.setattr(probe, "FIRST_CPU_S", 1)
    monkeypatch.setattr(probe, "MAX_CPU_S", 2)
    died = PROBES.labels("died")
    before = died._value.get()
    content = encode_video(2)
    late = "it takes too much processor time"
    assert await look(content) == Probed(problem=f"not checked yet: {late}", looked=False, slow=True)
    assert died._value.get() == before + 1
    about = {"robot_id": "r", "told_frames": 2, "depth": False, "span_us": 0}
    assert await prober.look_at(store, sha256_of(content), **about, slow=True) == Probed(problem=late)
    assert died._value.get() == before + 2


async def test_slow_video_of_two_robots_keeps_nobody_waiting(look, prober, store, monkeypatch):
    """What takes long has a place of its own: others are checked while it goes on."""
    waiting = asyncio.Event()

    async def never(self, question, path):
        if question.cpu_s == probe.MAX_CPU_S:
            waiting.set()
            await asyncio.Event().wait()
        return Probed(frames=2)

    monkeypatch.setattr(probe.Prober, "_look", never)
    content = encode_video(2)
    await look(content)
    about = {"told_frames": 2, "depth": False, "span_us": 0, "slow": True}
    slow = [
        asyncio.create_task(prober.look_at(store, sha256_of(content), robot_id=robot, **about))
        for robot in ("mallory", "malory")
    ]
    await waiting.wait()
    assert (await look(content, told=2)).frames == 2
    for each in slow:
        each.cancel()
    await asyncio.wait(slow)
