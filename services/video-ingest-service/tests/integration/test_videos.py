"""Videos of a session over HTTP, and their bytes."""

import asyncio

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from teleop_schema.files import DroppedFrames
from teleop_testing.datasets.files import encode_video, sha256_of, video_file
from teleop_testing.datasets.recorded import record_session
from teleop_testing.datasets.recorded_video import STARTED_US
from teleop_testing.waiting import PATIENCE_S
from teleop_video_ingest.errors import ChunkConflict
from teleop_video_ingest.files.verification import report_damage


@pytest.fixture
def send(catalog, keep):
    """Stores a video as an upload would, and returns its receipt."""

    async def send(content: bytes, session: int, **told):
        await keep(content)
        receipt, _ = await catalog.accept(video_file(content, session, **told))
        return receipt

    return send


async def test_videos_of_a_session_are_listed_with_what_they_cover(http, send, session):
    """Each chunk, and for each camera which frames have a picture and why others have none."""
    first = await send(encode_video(30, seed=1), session, indices=range(0, 60, 2))
    late = DroppedFrames(60, 80, "the encoder was too slow")
    second = await send(
        encode_video(20, seed=2), session, chunk_index=1, indices=range(80, 120, 2), dropped=(late,)
    )
    broken = await send(b"<html>", session, camera_key="wrist")
    answer = (await http.get(f"/sessions/{session}/videos")).json()
    assert (answer["session_id"], answer["robot_id"], answer["frames"]) == (session, "robot_A", 120)
    assert [video["id"] for video in answer["videos"]] == [first.id, second.id, broken.id]
    front, wrist = answer["cameras"]
    assert (front["camera_key"], front["chunks"], front["pictures"], front["known"]) == ("front", 2, 50, True)
    assert front["uncovered"] == [{"first": 61, "end": 80, "reason": "the encoder was too slow"}]
    assert (front["covered"], front["missing_chunks"]) == (101, [])
    assert (wrist["chunks"], wrist["quarantined"]) == (1, 1)
    video = answer["videos"][2]
    assert "not a readable mp4" in video["quarantine"]
    assert video["file_path"] == f"robot_A/sessions/{session}/wrist/000000.mp4"


async def test_videos_come_in_pages_and_by_camera(http, send, session):
    """No answer grows without end."""
    for number in range(5):
        await send(b"no video %d" % number, session, chunk_index=number, camera_key=f"cam{number % 2}")
    seen, cursor = [], 0
    while cursor is not None:
        page = (await http.get(f"/sessions/{session}/videos?limit=2&cursor={cursor}")).json()
        seen += [video["chunk_index"] for video in page["videos"]]
        cursor = page["next_cursor"]
    assert seen == [0, 1, 2, 3, 4]
    page = (await http.get(f"/sessions/{session}/videos?camera_key=cam1")).json()
    assert [video["chunk_index"] for video in page["videos"]] == [1, 3]
    assert [camera["camera_key"] for camera in page["cameras"]] == ["cam1"]


DAY_US = 86_400_000_000


def at(start_us):
    """Times of a chunk that lasts a second."""
    return {"start_us": start_us, "end_us": start_us + 1_000_000}


async def test_video_outside_its_session_is_removed_and_sent_again(http, send, session, database):
    """The receipt says that no frame has a picture, and of what times they should be."""
    await database.connection.execute(
        "UPDATE teleop_session SET last_frame_time = start_time + interval '2 s'"
    )
    content = encode_video(30)
    stray = await send(content, session, **at(STARTED_US + DAY_US))
    assert f"lie outside session {session}" in stray.warning
    assert f"DELETE /videos/{stray.id}" in stray.warning
    with pytest.raises(ChunkConflict) as caught:
        await send(content, session, **at(STARTED_US))
    assert f"DELETE /videos/{stray.id}" in caught.value.hint
    assert (await http.delete(f"/videos/{stray.id}")).status_code == 204
    assert (await http.delete(f"/videos/{stray.id}")).status_code == 404
    right = await send(content, session, **at(STARTED_US))
    assert (right.warning, right.path) == (None, stray.path)
    (video,) = (await http.get(f"/sessions/{session}/videos")).json()["videos"]
    assert video["id"] == right.id


async def test_video_may_be_ahead_of_a_session_that_goes_on(send, session, database):
    """Not before it: that is known at once."""
    await database.connection.execute(
        "UPDATE teleop_session SET status = 'recording', last_frame_time = start_time + interval '2 s'"
    )
    content = encode_video(30)
    ahead = await send(content, session, **at(STARTED_US + DAY_US))
    before = await send(content, session, chunk_index=1, **at(STARTED_US - DAY_US))
    assert ahead.warning is None
    assert "lie outside session" in before.warning


async def test_video_with_frames_is_not_removed(http, send, session):
    """Frames place it, not times."""
    kept = await send(encode_video(30), session, indices=range(30), **at(STARTED_US - DAY_US))
    assert kept.warning is None
    refusal = await http.delete(f"/videos/{kept.id}")
    assert (refusal.status_code, refusal.json()["code"]) == (409, "frames_told")
    assert (await http.get(f"/videos/{kept.id}")).status_code == 200


async def test_a_camera_that_was_announced_is_listed_without_video(http, session, database):
    """Its frames are all uncovered."""
    await database.connection.execute(
        """UPDATE teleop_session SET cameras = '{"wrist": {"height": 48, "width": 64}}'"""
    )
    (camera,) = (await http.get(f"/sessions/{session}/videos")).json()["cameras"]
    assert (camera["camera_key"], camera["chunks"], camera["covered"]) == ("wrist", 0, 0)
    assert camera["uncovered"] == [{"first": 0, "end": 120, "reason": "no video has arrived for it"}]


async def test_one_video_tells_the_time_of_each_picture(http, send, session):
    """The frame that first saw it, and when the camera took it."""
    receipt = await send(encode_video(4), session, indices=[0, 2, 4, 6])
    video = (await http.get(f"/videos/{receipt.id}")).json()
    assert video["frame_indices"] == [0, 2, 4, 6]
    assert len(video["captured_us"]) == 4
    assert (video["robot_id"], video["frame_count"], video["quarantine"]) == ("robot_A", 4, None)
    assert video["content"] == f"/videos/{receipt.id}/content"


async def test_content_is_served_as_the_rfc_says(http, send, session):
    """Type, length, tag; HEAD, If-None-Match, If-Range."""
    content = encode_video(30)
    receipt = await send(content, session)
    address = f"/videos/{receipt.id}/content"
    whole = await http.get(address)
    etag = f'"{sha256_of(content)}"'
    assert (whole.status_code, whole.content) == (200, content)
    assert whole.headers["content-type"] == "video/mp4"
    assert (whole.headers["etag"], whole.headers["accept-ranges"]) == (etag, "bytes")
    head = await http.head(address)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(content))
    known = await http.get(address, headers={"If-None-Match": etag})
    assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", etag)
    fresh = await http.get(address, headers={"Range": "bytes=5-9", "If-Range": etag})
    assert (fresh.status_code, fresh.content) == (206, content[5:10])
    stale = await http.get(address, headers={"Range": "bytes=5-9", "If-Range": '"older"'})
    assert (stale.status_code, stale.content) == (200, content)


async def test_a_range_behind_the_end_tells_the_size(http, send, session):
    """416, with what a client needs to ask again."""
    receipt = await send(b"0123456789", session)
    answer = await http.get(f"/videos/{receipt.id}/content", headers={"Range": "bytes=10-"})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == "bytes */10"
    assert (answer.json()["code"], answer.json()["field"]) == ("bad_range", "Range")


async def test_any_range_is_the_same_slice_of_the_file(service, send, session):
    """Across the 1 MiB parts in which bytes are read."""
    content = bytes(range(251)) * 12_000
    receipt = await send(content, session)

    @settings(max_examples=60)
    @given(first=st.integers(0, len(content) - 1), length=st.integers(1, 2 * 1024 * 1024))
    @example(0, 1)
    @example(len(content) - 1, 1)
    @example(1024 * 1024 - 1, 2)
    @example(0, len(content))
    def check(first: int, length: int) -> None:
        asked = {"Range": f"bytes={first}-{first + length - 1}"}
        answer = client.get(f"/videos/{receipt.id}/content", headers=asked)
        end = min(first + length, len(content))
        assert answer.status_code == 206
        assert answer.headers["content-range"] == f"bytes {first}-{end - 1}/{len(content)}"
        assert answer.content == content[first:end]

    with httpx.Client(base_url=f"http://{service}", timeout=PATIENCE_S) as client:
        await asyncio.to_thread(check)


async def test_what_is_quarantined_is_not_served_as_video(http, send, session):
    """A page named .mp4 stays bytes: no browser is to run it."""
    receipt = await send(b"<html><script>alert(1)</script></html>", session)
    answer = await http.get(f"/videos/{receipt.id}/content")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_what_is_known_to_be_gone_covers_nothing_and_is_not_begun(http, send, session, store, pool):
    """Its frames have no picture, and whoever asks for its bytes is told, not cut off."""
    receipt = await send(encode_video(30, seed=1), session, indices=range(0, 60, 2))
    await store.remove(receipt.sha256)
    await report_damage(pool, receipt.sha256, "it is missing")
    answer = (await http.get(f"/sessions/{session}/videos")).json()
    reason = "its file on the server is damaged: it is missing"
    assert answer["videos"][0]["quarantine"] == reason
    (front,) = answer["cameras"]
    assert (front["quarantined"], front["pictures"], front["covered"]) == (1, 0, 0)
    assert front["uncovered"][0]["reason"] == "its chunk can't be used"
    assert (await http.get(f"/videos/{receipt.id}")).json()["quarantine"] == reason
    content = await http.get(f"/videos/{receipt.id}/content")
    assert (content.status_code, content.json()["code"]) == (500, "damaged")
    assert receipt.path in content.json()["detail"]


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("/videos/1", "video_not_found"),
        ("/videos/0/content", "video_not_found"),
        (f"/videos/{2**70}", "video_not_found"),
        ("/sessions/77/videos", "session_not_found"),
        (f"/sessions/{2**70}/videos", "session_not_found"),
    ],
)
async def test_what_is_not_there_has_its_code(http, address, code):
    """404, each with its own."""
    answer = await http.get(address)
    assert (answer.status_code, answer.json()["code"]) == (404, code)


@pytest.mark.parametrize(
    ("query", "field"), [("limit=0", "limit"), ("limit=10001", "limit"), ("cursor=x", "cursor"), ("a=1", "a")]
)
async def test_bad_queries_name_the_field(http, session, query, field):
    """422."""
    answer = await http.get(f"/sessions/{session}/videos?{query}")
    assert (answer.status_code, answer.json()["field"]) == (422, field)


async def test_chunks_of_two_sessions_stay_apart(http, send, session, database_url):
    """The same chunk number of another session is another chunk."""
    other = record_session(database_url, 10)
    for number in (session, other):
        await send(b"no video", number)
    for number in (session, other):
        (video,) = (await http.get(f"/sessions/{number}/videos")).json()["videos"]
        assert video["session_id"] == number


async def test_videos_of_a_deleted_session_are_hidden(http, send, session, database, store_root):
    """As its frames are; what comes late is taken all the same."""
    await database.connection.execute("UPDATE teleop_session SET deleted_at = now()")
    receipt = await send(b"no video", session)
    assert (store_root / receipt.path).exists()
    answer = await http.get(f"/sessions/{session}/videos")
    assert (answer.status_code, answer.json()["code"]) == (404, "session_not_found")
