"""What robots hold is told apart: what the server has whole, and what is to be sent again."""

import uuid

import msgspec
import pytest
from teleop_schema.files import digest_of
from teleop_schema.holding import Held, HeldFrames, HeldVersion, HeldVideo, Lacking, OvertakenVersion
from teleop_testing.datasets.files import dataset_file, encode_video, manifest_of, sha256_of, video_file
from teleop_video_ingest.datasets.versions import commit_repair, commit_version

STRANGER = uuid.UUID(int=7)
FILES = {"meta/info.json": b"{}", "data/file.parquet": b"rows"}
ARCHIVED = """
INSERT INTO session_archive (session_id, next_frame_index, frames, frames_sha256, frames_bytes, about_sha256,
                             account, dropped_at)
VALUES ($1, 120, 120, '', 0, '', '{}', now())
"""
DAMAGE = "UPDATE stored_object SET damage = 'bitten' WHERE sha256 = $1"


@pytest.fixture
def ask(http):
    """Asks what the server lacks."""

    async def ask(**held) -> Lacking:
        body = msgspec.json.encode(Held(robot_id="robot_A", **held))
        answer = await http.post("/files/known", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 200, answer.text
        return msgspec.json.decode(answer.content, type=Lacking)

    return ask


@pytest.fixture
async def stream(session, database) -> uuid.UUID:
    """The stream of a session of 120 frames that has ended."""
    return uuid.UUID(str(await database.value("SELECT stream_id FROM teleop_session WHERE id = $1", session)))


async def test_versions(ask, pool, store, catalog, keep, database):
    """Known are those that are there as they were and whole, by their hash; the database tells its name."""
    for path, content in FILES.items():
        await keep(content)
        await catalog.accept(dataset_file(content, path, dataset="ds"))
    manifest = manifest_of(FILES)
    await commit_version(pool, store, "robot_A", "ds", manifest)
    stored = HeldVersion("ds", digest_of(manifest))
    others = HeldVersion("ds", "0" * 64), HeldVersion("other", digest_of(manifest))
    lacking = await ask(versions=(stored, *others))
    assert lacking.versions == others
    assert lacking.installation == uuid.UUID(str(await database.value("SELECT id FROM installation")))
    await database.connection.execute(DAMAGE, sha256_of(b"rows"))
    assert (await ask(versions=(stored,))).versions == (stored,)


async def test_streams_of_others_are_as_if_they_were_not(ask, stream, database):
    """Whoever has found out a stream's name learns nothing of it."""
    frames = HeldFrames(stream, 120, ended=True)
    assert (await ask(frames=(frames,))).frames == ()
    await database.connection.execute("INSERT INTO robot (robot_id, robot_type) VALUES ('robot_B', 'x')")
    await database.connection.execute("UPDATE teleop_session SET robot_id = 'robot_B'")
    lacking = await ask(frames=(frames,), videos=(HeldVideo(stream, "front", ((0, 1),)),))
    assert lacking.frames == (HeldFrames(stream, 0, ended=True),)
    assert lacking.videos == (HeldVideo(stream, "front", ((0, 1),)),)


async def test_what_came_after_a_version(ask, pool, store, catalog, keep):
    """Other content that came from a robot since is named; the same content again, or a repair, is none."""
    held = []
    for contents in (FILES, {**FILES, "data/file.parquet": b"other rows"}):
        for path, content in contents.items():
            await keep(content)
            await catalog.accept(dataset_file(content, path, dataset="ds"))
        held.append(HeldVersion("ds", digest_of(manifest_of(contents))))
        await commit_version(pool, store, "robot_A", "ds", manifest_of(contents))
        assert (await ask(versions=(held[-1],))).overtaken == ()
    first, second = held
    newer = OvertakenVersion("ds", first.manifest_sha256, newest=2)
    strangers = HeldVersion("ds", "0" * 64), HeldVersion("other", first.manifest_sha256)
    assert (await ask(versions=(first, second, *strangers))).overtaken == (newer,)
    await commit_version(pool, store, "robot_A", "ds", manifest_of(FILES))
    overtaken = (await ask(versions=(first, second))).overtaken
    assert overtaken == (OvertakenVersion("ds", second.manifest_sha256, newest=3),)
    repair = manifest_of({"meta/info.json": b"{}"})
    await commit_repair(pool, store, "robot_A", "ds", repair, repaired_from=3)
    assert (await ask(versions=(first,))).overtaken == ()


async def test_video_chunks(ask, catalog, keep, database, session, stream):
    """By the stream that they are of, the camera and their numbers."""
    contents = [encode_video(2, seed=number) for number in range(3)]
    for number, content in enumerate(contents):
        await keep(content)
        await catalog.accept(video_file(content, session, chunk_index=2 * number))
    held = HeldVideo(stream, "front", ((0, 1), (2, 6)))
    strangers = HeldVideo(stream, "wrist", ((0, 2),)), HeldVideo(STRANGER, "front", ((0, 1),))
    lacking = await ask(videos=(held, *strangers))
    assert lacking.videos == (HeldVideo(stream, "front", ((3, 4), (5, 6))), *strangers)
    await database.connection.execute(DAMAGE, sha256_of(contents[0]))
    assert (await ask(videos=(held,))).videos[0].chunks == ((0, 1), (3, 4), (5, 6))


async def test_frames(ask, database, session, stream):
    """As far as each stream reaches here, and whether it has ended."""
    whole = HeldFrames(stream, 120, ended=True)
    assert (await ask(frames=(whole,))).frames == ()
    lacking = await ask(frames=(HeldFrames(stream, 121, ended=True), HeldFrames(STRANGER, 5, ended=False)))
    assert lacking.frames == (HeldFrames(stream, 120, ended=True), HeldFrames(STRANGER, 0, ended=False))
    await database.connection.execute("UPDATE teleop_session SET status = 'recording'")
    assert (await ask(frames=(whole,))).frames == (whole,)
    assert (await ask(frames=(HeldFrames(stream, 120, ended=False),))).frames == ()


async def test_frames_that_the_archive_has_lost(ask, database, session, stream):
    """There is none of them, until they are back; a damaged copy of what is in the database takes nothing."""
    whole = HeldFrames(stream, 120, ended=True)
    await database.connection.execute(ARCHIVED, session)
    assert (await ask(frames=(whole,))).frames == ()
    await database.connection.execute("UPDATE session_archive SET damage = 'it is missing'")
    assert (await ask(frames=(whole,))).frames == (HeldFrames(stream, 0, ended=True),)
    await database.connection.execute("UPDATE session_archive SET dropped_at = NULL")
    assert (await ask(frames=(whole,))).frames == ()


@pytest.mark.parametrize(
    ("chunks", "field"), [([[3, 3]], "chunks"), ([[4, 6], [5, 7]], "chunks"), ([[0, 20_001]], "videos")]
)
async def test_what_makes_no_sense_is_refused(http, chunks, field):
    """Ranges that are empty, overlap, or are more than one request may ask for."""
    video = {"stream": str(STRANGER), "camera_key": "front", "chunks": chunks}
    answer = await http.post("/files/known", json={"robot_id": "robot_A", "videos": [video]})
    assert (answer.status_code, answer.json()["field"].split(".")[-1]) == (422, field)
