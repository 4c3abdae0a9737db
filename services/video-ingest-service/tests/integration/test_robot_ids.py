"""A line break in or behind a robot's id makes it another id, which no robot can have."""

import base64

import pytest
from teleop_testing.datasets.files import dataset_file

ROBOT = "robot_A\n"
FILE = {"robot_id": ROBOT, "dataset": "picking", "path": "meta/info.json"}
VIDEO = {
    "robot_id": ROBOT,
    "session": "1",
    "camera_key": "front",
    "chunk_index": "0",
    "start_timestamp": "1",
    "end_timestamp": "2",
}


@pytest.fixture
async def picking(catalog, keep):
    """A dataset of robot_A."""
    await keep(b"{}")
    await catalog.accept(dataset_file(b"{}", "meta/info.json", dataset="picking"))


def refused(answer) -> None:
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_robot_id"), answer.text


@pytest.mark.parametrize(
    ("method", "address"),
    [
        ("GET", "/datasets?robot_id=robot_A%0A"),
        ("GET", "/datasets/robot_A%0A/picking"),
        ("GET", "/datasets/robot_A%0A/picking/versions"),
        ("POST", "/datasets/robot_A%0A/picking/versions"),
        ("GET", "/datasets/robot_A%0A/picking/restore"),
        ("POST", "/datasets/robot_A%0A/picking/verify"),
        ("POST", "/datasets/robot_A%0A/picking/repair"),
        ("GET", "/datasets/robot_A%0A/picking/files/meta/info.json"),
        ("GET", "/hub/robot_A%0A/picking/resolve/main/meta/info.json"),
        ("GET", "/datasets/robot%0A_A/picking"),
        ("GET", "/datasets/%0Arobot_A/picking"),
    ],
)
async def test_in_an_address(http, picking, method, address):
    """In its path and in its query."""
    refused(await http.request(method, address))


async def test_in_what_is_told_of_a_file(http):
    """In a form, in tus metadata, in a plan."""
    for kind, fields in (("sync", FILE), ("video", VIDEO)):
        refused(await http.post(f"/upload/{kind}", data=fields, files={"file": ("f", b"{}")}))
        told = ",".join(f"{name} {base64.b64encode(text.encode()).decode()}" for name, text in fields.items())
        headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "2", "Upload-Metadata": told}
        refused(await http.post("/files", headers=headers))
    plan = {"file": {"kind": "dataset", **FILE, "size_bytes": 2, "sha256": "0" * 64}}
    refused(await http.post("/files/plan", json=plan))


@pytest.mark.parametrize(
    ("address", "status", "field"),
    [
        ("/datasets/robot_A/picking%0A", 422, "dataset"),
        ("/datasets/robot_A/picking/files/meta/info.json%0A", 422, "path"),
        # Its files have the names that they had on the robot, and one could have had this one.
        ("/hub/robot_A/picking/resolve/main/meta/info.json%0A", 404, "path"),
    ],
)
async def test_behind_another_name(http, picking, address, status, field):
    """What an address names is looked up as it is told, to its last character."""
    answer = await http.get(address)
    assert (answer.status_code, answer.json()["field"]) == (status, field)
