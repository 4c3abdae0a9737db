"""Datasets over HTTP: listed, versioned, verified, given back."""

import asyncio
import io
import json
import random
import tarfile
from urllib.parse import quote

import httpx
import msgspec
import pytest
from teleop_testing.datasets.files import dataset_file, manifest_of, sha256_of

FILES = {
    "meta/info.json": b'{"codebase_version": "v3.0"}',
    "data/chunk-000/file-000.parquet": b"PAR1" * 1000,
    "videos/observation.images.front/chunk-000/file-000.mp4": b"\0mp4" * 700_000,
    "README.md": b"",
}
ADDRESS = "/datasets/robot_A/someone/picking"


@pytest.fixture
def send(catalog, keep):
    """Stores files of a dataset as uploads would."""

    async def send(files: dict[str, bytes], **told) -> None:
        for path, content in files.items():
            await keep(content)
            await catalog.accept(dataset_file(content, path, **told))

    return send


@pytest.fixture
def commit(http):
    """Makes a version of a dataset, and returns the answer."""

    async def commit(files: dict[str, bytes], address: str = ADDRESS, **state):
        body = msgspec.json.encode(manifest_of(files, **state))
        return await http.post(f"{address}/versions", content=body)

    return commit


async def test_a_version_appears_when_all_of_it_is_there(http, send, commit):
    """Before, the files that are lacking are named."""
    await send(dict(list(FILES.items())[:2]))
    refused = await commit(FILES)
    assert (refused.status_code, refused.json()["code"]) == (409, "files_missing")
    assert refused.json()["files"] == list(FILES)[2:]
    assert (await http.get(f"{ADDRESS}/versions")).json()["versions"] == []
    await send(FILES)
    made = await commit(FILES, episodes=3)
    assert made.status_code == 201
    version = made.json()
    assert (version["version"], version["source"], version["finalised"]) == (1, "robot", False)
    assert (version["files"], version["size_bytes"]) == (4, sum(map(len, FILES.values())))
    assert (version["total_episodes"], version["total_frames"]) == (3, 30)


async def test_the_same_state_is_no_new_version(send, commit):
    """In whatever order its files are listed; another state is."""
    await send(FILES)
    first = await commit(FILES)
    again = await commit(dict(reversed(FILES.items())))
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    finalised = await commit(FILES, finalised=True)
    assert (finalised.status_code, finalised.json()["version"]) == (201, 2)


async def test_versions_made_at_once_have_numbers_of_their_own(http, send, commit):
    """And the same one made at once is one version."""
    await send(FILES)
    answers = await asyncio.gather(*(commit(FILES, episodes=number % 3) for number in range(9)))
    assert {answer.status_code for answer in answers} <= {200, 201}
    versions = (await http.get(f"{ADDRESS}/versions")).json()["versions"]
    numbers = [version["version"] for version in versions]
    assert numbers == list(range(len(numbers), 0, -1))
    assert {version["total_episodes"] for version in versions} == {0, 1, 2}


async def test_a_version_wants_the_content_under_its_own_path(send, commit):
    """Bytes of another dataset do not make up for a file that was never sent."""
    await send({"meta/info.json": b"mine"})
    await send({"meta/other.json": b"theirs"}, dataset="someone/else")
    answer = await commit({"meta/info.json": b"mine", "meta/other.json": b"theirs"})
    assert answer.json()["files"] == ["meta/other.json"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"files": []}, "files"),
        ({"files": [{"path": "../x.json", "size_bytes": 1, "sha256": "0" * 64}]}, "files[0].path"),
        ({"files": [{"path": "x.json", "size_bytes": -1, "sha256": "0" * 64}]}, "files[0].size_bytes"),
        ({"files": [{"path": "x.json", "size_bytes": 1, "sha256": "0"}]}, "files[0].sha256"),
        ({"files": [{"path": "x.json", "size_bytes": 1, "sha256": "0" * 64}] * 2}, "files[1].path"),
        ({"total_episodes": -1}, "total_episodes"),
        ({"surprise": 1}, "surprise"),
    ],
)
async def test_bad_manifests_name_the_field(http, send, change, field):
    """422, and no version."""
    await send(FILES)
    body = json.loads(msgspec.json.encode(manifest_of(FILES))) | change
    answer = await http.post(f"{ADDRESS}/versions", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["field"] == field


async def test_a_manifest_may_be_larger_than_other_bodies(http, send):
    """Ten thousand files are 1.5 MB of JSON; a hundred thousand are allowed."""
    await send({"meta/info.json": b"{}"})
    files = {f"data/chunk-000/file-{number:06}.parquet": b"x" for number in range(10_000)}
    answer = await http.post(f"{ADDRESS}/versions", content=msgspec.json.encode(manifest_of(files)))
    assert (answer.status_code, answer.json()["code"]) == (409, "files_missing")
    assert len(answer.json()["files"]) == 100


async def test_datasets_are_listed_with_their_status(http, send, commit, database):
    """Newest first, by robot, in pages."""
    await send(FILES)
    await send({"meta/info.json": b"{}"}, robot_id="robot_B", dataset="other")
    await commit(FILES)
    listed = (await http.get("/datasets")).json()["datasets"]
    found = [(each["robot_id"], each["dataset"], each["status"], each["versions"]) for each in listed]
    assert found == [
        ("robot_B", "other", "incoming", 0),
        ("robot_A", "someone/picking", "unfinalised", 1),
    ]
    await commit(FILES, finalised=True)
    await commit(FILES, episodes=2)
    (mine,) = (await http.get("/datasets?robot_id=robot_A")).json()["datasets"]
    assert (mine["status"], mine["versions"], mine["newest"]["version"]) == ("finalised", 3, 2)
    await database.connection.execute("UPDATE stored_object SET damage = 'x' WHERE size_bytes > 1000")
    (mine,) = (await http.get("/datasets?robot_id=robot_A")).json()["datasets"]
    assert mine["status"] == "damaged"
    page = (await http.get("/datasets?limit=1")).json()
    assert [each["robot_id"] for each in page["datasets"]] == ["robot_B"]
    page = (await http.get(f"/datasets?limit=1&cursor={page['next_cursor']}")).json()
    assert [each["robot_id"] for each in page["datasets"]] == ["robot_A"]
    assert page["next_cursor"] is None


async def test_one_dataset_tells_its_files(http, send, commit):
    """Of its best version, of any version, or what there is while no version is; in pages."""
    await send(FILES)
    incoming = (await http.get(ADDRESS)).json()
    assert {file["path"]: file["sha256"] for file in incoming["files"]} == {
        path: sha256_of(content) for path, content in FILES.items()
    }
    await commit(FILES)
    newer = FILES | {"meta/info.json": b"newer"}
    await send(newer)
    await commit(newer, finalised=True)
    digests = {}
    for version in ("", "?version=1", "?version=2"):
        files = (await http.get(f"{ADDRESS}{version}")).json()["files"]
        digests[version] = {file["path"]: file["sha256"] for file in files}["meta/info.json"]
    assert digests == {
        "": sha256_of(b"newer"),
        "?version=1": sha256_of(FILES["meta/info.json"]),
        "?version=2": sha256_of(b"newer"),
    }
    seen, after = [], ""
    while after is not None:
        page = (await http.get(ADDRESS, params={"limit": 3, "after": after})).json()
        seen += [file["path"] for file in page["files"]]
        after = page["next_after"]
    assert sorted(seen) == sorted(FILES)


async def test_restore_gives_back_every_byte(http, send, commit):
    """As a tar in folders of the dataset's name; the same each time."""
    await send(FILES)
    await commit(FILES, finalised=True)
    answer = await http.get(f"{ADDRESS}/restore")
    assert answer.headers["content-type"] == "application/x-tar"
    assert len(answer.content) == int(answer.headers["content-length"])
    assert answer.headers["x-dataset-version"] == "1"
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        members = archive.getmembers()
        found = {each.name: archive.extractfile(each).read() for each in members if each.isfile()}
    assert found == {f"someone/picking/{path}": content for path, content in FILES.items()}
    folders = {each.name: each.mode for each in members if each.isdir()}
    assert folders["someone/picking/meta"] == folders["someone"] == 0o755
    names = [each.name for each in members]
    assert names.index("someone/picking/meta") < names.index("someone/picking/meta/info.json")
    assert (await http.get(f"{ADDRESS}/restore")).content == answer.content


async def test_restore_in_ranges(http, send, commit, store_root):
    """A download that broke is continued, and a damaged file breaks it off then, too."""
    large = {"data/file-000.parquet": random.Random(1).randbytes(3_000_000), "meta/info.json": b"{}"}
    await send(large)
    await commit(large, finalised=True)
    whole = await http.get(f"{ADDRESS}/restore")
    condition = {"If-Range": whole.headers["etag"]}
    for start in (700, 2_000_000, len(whole.content) - 1):
        rest = await http.get(f"{ADDRESS}/restore", headers={"Range": f"bytes={start}-", **condition})
        assert (rest.status_code, rest.content) == (206, whole.content[start:])
    content = large["data/file-000.parquet"]
    hurt(store_root, content, b"x" + content[1:])
    with pytest.raises(httpx.HTTPError):
        await http.get(f"{ADDRESS}/restore", headers={"Range": "bytes=2000000-", **condition})


async def test_restore_takes_the_best_version_or_the_one_asked_for(http, send, commit):
    """A finalised one comes before a newer one that is not."""
    await send(FILES)
    await commit(FILES, finalised=True)
    newer = {"meta/info.json": b"half-done"}
    await send(newer)
    await commit(newer)
    for query, expected in (("", 4), ("?version=1", 4), ("?version=2", 1)):
        content = (await http.get(f"{ADDRESS}/restore{query}")).content
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            assert sum(each.isfile() for each in archive.getmembers()) == expected


async def test_restored_files_have_the_time_of_their_version(http, send, commit, database):
    """Later than those of earlier versions, even if the clock was set back, and the same each time: LeRobot
    takes a file at the same path for the same if its time is."""
    times, tags = [], set()
    for content in (b"one", b"two"):
        await send({"meta/info.json": content})
        await commit({"meta/info.json": content}, finalised=True)
        await database.connection.execute(
            "UPDATE dataset_version SET created_at = '2026-01-05T10:00:00.123456Z'"
        )
        answer = await http.get(f"{ADDRESS}/restore")
        tags.add(answer.headers["etag"])
        assert (await http.get(f"{ADDRESS}/restore")).headers["etag"] == answer.headers["etag"]
        with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
            (header,) = {each.pax_headers["mtime"] for each in archive}
        times.append(header)
    assert times == ["1767607200.123457000", "1767607200.123458000"]
    assert len(tags) == 2


async def test_restore_of_long_and_foreign_names(http, send, commit):
    """Longer than tar's own 100 bytes, and beyond ASCII."""
    files = {"데이터/" + "a" * 120 + "/é.json": b"1", "x.json": b"2"}
    await send(files, dataset="집게 로봇")
    assert (await commit(files, "/datasets/robot_A/집게 로봇")).status_code == 201
    answer = await http.get("/datasets/robot_A/집게 로봇/restore")
    told = answer.headers["content-disposition"]
    assert told == f"attachment; filename=\"?? ??.tar\"; filename*=UTF-8''{quote('집게 로봇.tar')}"
    assert len(answer.content) == int(answer.headers["content-length"])
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        found = {each.name: archive.extractfile(each).read() for each in archive if each.isfile()}
    assert found == {f"집게 로봇/{path}": content for path, content in files.items()}


async def test_verify_reads_all_and_finds_damage(http, send, commit, store_root, database):
    """Bytes that flipped, a file that shrank, one that is gone: each is told, noted, and stays noted."""
    await send(FILES)
    await commit(FILES)
    sound = (await http.post(f"{ADDRESS}/verify")).json()
    assert (sound["checked"], sound["damaged"]) == (4, [])
    assert sound["size_bytes"] == sum(map(len, FILES.values()))
    info, data, video, _ = FILES
    hurt(store_root, FILES[info], b"x" * len(FILES[info]))
    hurt(store_root, FILES[data], b"short")
    object_of(store_root, FILES[video]).unlink()
    found = (await http.post(f"{ADDRESS}/verify?version=1")).json()
    damage = {each["path"]: each["damage"] for each in found["damaged"]}
    assert set(damage) == {info, data, video}
    assert "SHA-256" in damage[info]
    assert "5 bytes" in damage[data]
    assert damage[video] == "it is missing"
    assert (await http.get(ADDRESS)).json()["status"] == "damaged"
    assert await database.value("SELECT count(*) FROM stored_object WHERE damage IS NOT NULL") == 3
    refused = await http.get(f"{ADDRESS}/restore")
    assert (refused.status_code, refused.json()["code"]) == (500, "damaged")


async def test_damage_heals_when_the_robot_sends_the_file_again(http, send, commit, store_root):
    """And verify says so."""
    await send(FILES)
    await commit(FILES)
    hurt(store_root, FILES["meta/info.json"], b"x")
    assert len((await http.post(f"{ADDRESS}/verify")).json()["damaged"]) == 1
    await send({"meta/info.json": FILES["meta/info.json"]})
    assert (await http.post(f"{ADDRESS}/verify")).json()["damaged"] == []
    assert (await http.get(f"{ADDRESS}/restore")).status_code == 200


async def test_restore_is_cut_rather_than_wrong(http, send, commit, store_root, database):
    """Damage that nobody has noticed yet shows on the way: no whole tar of wrong bytes is given."""
    await send(FILES)
    await commit(FILES)
    content = FILES["data/chunk-000/file-000.parquet"]
    hurt(store_root, content, b"x" + content[1:])
    with pytest.raises(Exception, match=r"incomplete|peer closed"):
        await http.get(f"{ADDRESS}/restore")
    assert await database.value("SELECT count(*) FROM stored_object WHERE damage IS NOT NULL") == 1


def object_of(store_root, content: bytes):
    sha256 = sha256_of(content)
    return store_root / ".objects" / sha256[:2] / sha256[2:4] / sha256


def hurt(store_root, content: bytes, instead: bytes) -> None:
    path = object_of(store_root, content)
    path.chmod(0o644)
    path.write_bytes(instead)


async def test_files_are_served_one_by_one(http, send, commit):
    """With the type of their ending, and with ranges."""
    await send(FILES)
    for path, content in FILES.items():
        answer = await http.get(f"{ADDRESS}/files/{path}")
        assert (answer.status_code, answer.content) == (200, content)
    json_file = await http.get(f"{ADDRESS}/files/meta/info.json", headers={"Range": "bytes=1-3"})
    assert (json_file.status_code, json_file.headers["content-type"]) == (206, "application/json")
    await commit(FILES)
    await send({"meta/info.json": b"newer"})
    assert (await http.get(f"{ADDRESS}/files/meta/info.json?version=1")).content == FILES["meta/info.json"]


async def test_files_may_also_be_a_folder(http, send):
    """Of the dataset, or the first part of its name."""
    await send({"files/a.json": b"1"}, dataset="files/x")
    assert (await http.get("/datasets/robot_A/files/x/files/files/a.json")).content == b"1"


@pytest.mark.parametrize(
    ("address", "status", "code", "field"),
    [
        ("/datasets/robot_A/nothing", 404, "dataset_not_found", "dataset"),
        ("/datasets/robot_B/someone/picking", 404, "dataset_not_found", "dataset"),
        (f"{ADDRESS}?version=9", 404, "version_not_found", "version"),
        (f"{ADDRESS}/restore?version=9", 404, "version_not_found", "version"),
        (f"{ADDRESS}/files/meta/none.json", 404, "file_not_found", "path"),
        (f"{ADDRESS}/files/..%2f..%2fx.json", 422, "bad_input", "path"),
        (f"{ADDRESS}?limit=0", 422, "bad_input", "limit"),
        (f"{ADDRESS}?version=0", 422, "bad_input", "version"),
        (f"{ADDRESS}?version={2**40}", 422, "bad_input", "version"),
        ("/datasets/..%2e/x", 422, "bad_robot_id", "robot_id"),
        ("/datasets/robot_A/..%2fx", 422, "bad_input", "dataset"),
        ("/datasets/robot_A/a%00b", 422, "bad_input", "dataset"),
        ("/datasets/robot_A/'; DROP TABLE dataset;--", 404, "dataset_not_found", "dataset"),
    ],
)
async def test_what_is_not_there_or_no_name_says_so(http, send, address, status, code, field):
    """Each with its code and field."""
    await send(FILES)
    answer = await http.get(address)
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (status, code, field)
