"""What the spool holds is asked for in requests of bounded size."""

from uuid import UUID

from lerobot_robot_backend.shipping.recall import ask, in_requests
from msgspec.structs import asdict
from teleop_schema.holding import (
    MAX_HELD,
    MAX_HELD_CHUNKS,
    Held,
    HeldFrames,
    HeldVersion,
    HeldVideo,
    Lacking,
    OvertakenVersion,
)

STREAM = UUID(int=1)


def test_nothing_is_one_request():
    """It tells whose database it is all the same."""
    assert list(in_requests(Held(robot_id="r"))) == [Held(robot_id="r")]


def test_all_of_it_is_asked_for_once():
    """However many versions, streams and chunks there are."""
    held = Held(
        robot_id="r",
        versions=tuple(HeldVersion(f"ds{number}", "0" * 64) for number in range(MAX_HELD)),
        frames=tuple(HeldFrames(UUID(int=number), number, True) for number in range(MAX_HELD)),
        videos=(HeldVideo(STREAM, "front", ((0, 12_000), (13_000, 20_000))),),
    )
    parts = list(in_requests(held))
    assert [v for part in parts for v in part.versions] == list(held.versions)
    assert [f for part in parts for f in part.frames] == list(held.frames)
    asked = [chunks for part in parts for video in part.videos for chunks in video.chunks]
    assert asked == [(0, 12_000), (13_000, 20_000)]
    assert all(len(part.versions) + len(part.frames) + len(part.videos) <= MAX_HELD for part in parts)


def test_a_very_long_stream_is_asked_for_in_pieces():
    """A range that no request may hold is cut."""
    video = HeldVideo(STREAM, "front", ((5, 5 + 2 * MAX_HELD_CHUNKS + 1),))
    held = Held(robot_id="r", videos=(video,))
    asked = [piece for part in in_requests(held) for each in part.videos for piece in each.chunks]
    assert asked[0] == (5, 5 + MAX_HELD_CHUNKS)
    assert sum(end - first for first, end in asked) == 2 * MAX_HELD_CHUNKS + 1


class Knowing:
    """A backend that lacks everything, and has newer versions of everything."""

    async def ask(self, _method: str, _path: str, _answer: type, *, body: Held) -> Lacking:
        overtaken = tuple(OvertakenVersion(v.dataset, v.manifest_sha256, newest=2) for v in body.versions)
        parts = {"versions": body.versions, "videos": body.videos, "frames": body.frames}
        return Lacking(installation=STREAM, overtaken=overtaken, **parts)


async def test_the_answers_to_several_requests_are_one():
    """Nothing that the server says of any part is lost."""
    versions = tuple(HeldVersion(f"ds{number}", "0" * 64) for number in range(MAX_HELD + 1))
    frames, videos = (HeldFrames(STREAM, 1, True),), (HeldVideo(STREAM, "front", ((0, 1),)),)
    told = await ask(Knowing(), Held(robot_id="r", versions=versions, frames=frames, videos=videos))
    assert {field: len(value) for field, value in asdict(told).items() if field != "installation"} == {
        "versions": MAX_HELD + 1, "videos": 1, "frames": 1, "overtaken": MAX_HELD + 1,
    }  # fmt: skip
