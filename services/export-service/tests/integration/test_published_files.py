"""What is served of a finished export: its archive, and its files one by one."""

import io
import tarfile

import pytest


async def test_archive_is_the_dataset(backend, record):
    """Every file in one folder named like the dataset."""
    export, folder = await backend.export(await record(100))
    answer = await backend.http.get(f"/exports/{export['id']}/archive")
    assert answer.headers["content-type"] == "application/x-tar"
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
        found = {member.name: tar.extractfile(member).read() for member in tar}
    files = {path for path in folder.rglob("*") if path.is_file()}
    assert found == {f"pick/{path.relative_to(folder)}": path.read_bytes() for path in files}


async def test_an_archive_in_ranges(backend, record):
    """A download that broke is continued, unless it is another archive by now; nothing is sent twice."""
    export, _ = await backend.export(await record(100))
    url = f"/exports/{export['id']}/archive"
    whole = await backend.http.get(url)
    tag, content = whole.headers["etag"], whole.content
    rest = await backend.http.get(url, headers={"Range": "bytes=5000-", "If-Range": tag})
    assert (rest.status_code, rest.content) == (206, content[5000:])
    assert rest.headers["content-range"] == f"bytes 5000-{len(content) - 1}/{len(content)}"
    other = await backend.http.get(url, headers={"Range": "bytes=5000-", "If-Range": '"other"'})
    assert (other.status_code, other.content) == (200, content)
    assert (await backend.http.get(url, headers={"If-None-Match": tag})).status_code == 304
    beyond = await backend.http.get(url, headers={"Range": f"bytes={len(content)}-"})
    assert (beyond.status_code, beyond.json()["code"]) == (416, "bad_range")
    assert beyond.headers["content-range"] == f"bytes */{len(content)}"
    head = await backend.http.head(url)
    assert (head.headers["content-length"], head.content) == (str(len(content)), b"")


async def test_files_have_the_time_of_their_publication(backend, record, database):
    """Later than those of the last export of that name, whatever the clock says, and the same each time:
    LeRobot takes a file at the same path for the same if its time is."""
    times, tags = [], []
    for frames in (60, 61):
        export, _ = await backend.export(await record(frames))
        answer = await backend.http.get(f"/exports/{export['id']}/archive")
        again = await backend.http.get(f"/exports/{export['id']}/archive")
        assert (again.content, again.headers["etag"]) == (answer.content, answer.headers["etag"])
        with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
            (time,) = {member.mtime for member in tar}
        times.append(time)
        tags.append(answer.headers["etag"])
        await database.connection.execute(
            "UPDATE export SET finished_at = finished_at + interval '1 day' WHERE id = $1", export["id"]
        )
    assert times[1] - times[0] == pytest.approx(86_400, abs=3600)
    assert tags[0] != tags[1]


async def test_files_are_served_in_ranges(backend, record):
    """As readers of Parquet over HTTP ask for them."""
    export, folder = await backend.export(await record(100))
    path = "data/chunk-000/file-000.parquet"
    content = (folder / path).read_bytes()
    url = f"/exports/{export['id']}/files/{path}"
    assert (await backend.http.get(url)).content == content
    part = await backend.http.get(url, headers={"Range": "bytes=-8"})
    assert (part.status_code, part.content) == (206, content[-8:])
    kept = await backend.http.get(url, headers={"If-None-Match": part.headers["etag"]})
    assert (kept.status_code, kept.content) == (304, b"")
    info = await backend.http.get(f"/exports/{export['id']}/files/meta/info.json")
    assert info.json()["codebase_version"] == "v3.0"


@pytest.mark.parametrize(
    "path",
    [
        "meta",
        "nothing",
        "%2e%2e/%2e%2e/etc/passwd",
        "/etc/passwd",
        "meta%2f..%2f..%2f.building",
        "a%00b",
        "x" * 300,
    ],
)
async def test_files_outside_the_dataset_are_not_served(backend, record, path):
    """Whatever the address looks like."""
    export, _ = await backend.export(await record(10))
    answer = await backend.http.get(f"/exports/{export['id']}/files/{path}")
    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"
