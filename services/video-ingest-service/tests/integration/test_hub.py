"""Datasets at the addresses of the Hub, as LeRobot's visualizer reads them."""

import msgspec
import pytest
from teleop_schema.identifiers import stored_path
from teleop_testing.datasets.files import dataset_file, manifest_of

PAGE = {"Origin": "https://visualizer.example"}


@pytest.fixture
def publish(catalog, keep, http):
    """Stores a version of a dataset."""

    async def publish(dataset: str, files: dict[str, bytes], **state) -> None:
        for path, content in files.items():
            await keep(content)
            await catalog.accept(dataset_file(content, path, dataset=dataset))
        body = msgspec.json.encode(manifest_of(files, **state))
        answer = await http.post(f"/datasets/robot_A/{dataset}/versions", content=body)
        assert answer.status_code == 201

    return publish


async def test_a_page_of_another_site_reads_a_dataset(http, publish):
    """With ranges, as hyparquet and video elements ask for them; a dataset's slash is two dashes."""
    await publish("someone/picking", {"meta/info.json": b"{}", "data/f.parquet": b"PAR1PAR1"})
    for name in ("someone--picking", "someone/picking"):
        address = f"/hub/robot_A/{name}/resolve/main/data/f.parquet"
        whole = await http.get(address, headers=PAGE)
        assert (whole.status_code, whole.content) == (200, b"PAR1PAR1")
        assert whole.headers["access-control-allow-origin"] == PAGE["Origin"]
        assert whole.headers["content-type"] == "application/vnd.apache.parquet"
        tail = await http.get(address, headers=PAGE | {"Range": "bytes=-4"})
        assert (tail.status_code, tail.content) == (206, b"PAR1")
        assert "Content-Range" in tail.headers["access-control-expose-headers"]
        head = await http.head(address, headers=PAGE)
        assert (head.status_code, head.headers["content-length"]) == (200, "8")


async def test_a_file_is_read_by_its_own_name(http, publish):
    """A camera with a colon in its name is stored under an escaped one, which no page knows."""
    video = "videos/observation.images.arm:left/chunk-000/file-000.mp4"
    await publish("picking", {"meta/info.json": b"{}", stored_path(video): b"film"})
    answer = await http.get(f"/hub/robot_A/picking/resolve/main/{video}", headers=PAGE)
    assert (answer.content, answer.headers["content-type"]) == (b"film", "video/mp4")


async def test_a_browser_may_ask_first(http):
    """The preflight allows reading with a range, and nothing else."""
    answer = await http.options(
        "/hub/robot_A/x/resolve/main/meta/info.json",
        headers=PAGE | {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "range"},
    )
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-methods"] == "GET, HEAD, OPTIONS"
    assert "Range" in answer.headers["access-control-allow-headers"]


async def test_pages_of_other_sites_read_nothing_else(http, publish):
    """Neither the same file at its own address, nor anything with another method."""
    await publish("picking", {"meta/info.json": b"{}"})
    for address in ("/datasets", "/datasets/robot_A/picking/files/meta/info.json"):
        assert (await http.get(address, headers=PAGE)).status_code == 403
    written = await http.post("/hub/robot_A/picking/resolve/main/meta/info.json", headers=PAGE)
    assert written.status_code == 403


async def test_a_name_with_two_dashes_is_taken_literally_first(http, publish):
    """`a--b` is `a--b` if there is such a dataset, else `a/b`."""
    await publish("c--d", {"meta/info.json": b"literal"})
    await publish("c/d", {"meta/info.json": b"slash"})
    assert (await http.get("/hub/robot_A/c--d/resolve/main/meta/info.json")).content == b"literal"


async def test_the_finalised_version_is_shown(http, publish):
    """Not a newer one that is still being recorded."""
    await publish("picking", {"meta/info.json": b"whole"}, finalised=True)
    await publish("picking", {"meta/info.json": b"half"})
    assert (await http.get("/hub/robot_A/picking/resolve/main/meta/info.json")).content == b"whole"


@pytest.mark.parametrize(
    ("path", "status"),
    [("picking/resolve/main/meta/none.json", 404), ("none/resolve/main/meta/info.json", 404),
     ("picking/resolve/main/..%2fx.json", 422)],
)  # fmt: skip
async def test_a_page_may_read_errors_too(http, publish, path, status):
    """Else a browser would only say that something failed."""
    await publish("picking", {"meta/info.json": b"{}"})
    answer = await http.get(f"/hub/robot_A/{path}", headers=PAGE)
    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == PAGE["Origin"]
    assert answer.json()["code"]
