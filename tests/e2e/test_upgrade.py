"""Today's backend, robot and agent take over what the first state of this product left behind.

The code of that time recorded it (`states/make_first_state.py`); it is restored into a real PostgreSQL.
Nothing of it may be lost, come twice, or read as anything else.
"""

import csv
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import httpx
import pyarrow.parquet as pq
import pytest
from lerobot_robot_backend.spool.stream import read_progress
from lerobot_robot_backend.video.files import has_unstored_video
from lerobot_robot_virtual.scene import read_frame_counter
from teleop_backend.postgres import EmbeddedPostgres
from teleop_testing.backends.hub import TOKEN, Hub, hub_serving
from teleop_testing.backends.processes import ServiceProcess
from teleop_testing.datasets.dataset_folders import contents
from teleop_testing.datasets.files import sha256_of
from teleop_testing.robots.tus import BODY, TUS
from teleop_testing.waiting import PATIENCE_S, wait_for

STATE = Path(__file__).parent / "states/first.tar.xz"
ROBOT = "robot_A"
AGENT = Path(sys.executable).parent / "sync-agent"
# What the first frame of each recording has as its first joint; the others follow.
FIRST_VALUES = {"kept": 1000.0, "whole": 2000.0, "half": 3000.0, "unsent": 4000.0}
# The archive is as old as it is; an upgrade comes before what is half-way has expired.
IN_TIME = "UPDATE upload SET expires_at = now() + interval '1 day' WHERE finished_at IS NULL"


@dataclass
class Site:
    """The upgraded backend; `folder` has the rest of what was there, `truth` what was told of it then."""

    backend: ServiceProcess
    folder: Path
    hub: Hub
    truth: dict[str, Any]

    def url(self, address: str) -> str:
        return f"http://{self.backend.address}{address}"

    def bytes(self, address: str, **headers: str) -> bytes:
        answer = httpx.get(self.url(address), headers=headers, timeout=PATIENCE_S)
        assert answer.status_code == 200, answer.text
        return answer.content

    def get(self, address: str) -> Any:
        return json.loads(self.bytes(address))

    def frames(self, number: int) -> list[dict[str, str]]:
        text = self.bytes(f"/sessions/{number}/frames", Accept="text/csv").decode()
        return [*csv.DictReader(io.StringIO(text))]

    def run(self, *command: str, ends_with: tuple[int, ...] = (0,), **environment: str) -> str:
        """What a command says."""
        spool = {"LEROBOT_BACKEND_SPOOL": str(self.folder / "robot/spool")}
        done = subprocess.run(
            command,
            env={**os.environ, **spool, **environment},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode in ends_with, done.stderr
        return done.stdout + done.stderr

    def made(self, export_id: int) -> dict[str, Any]:
        """An export once it is made."""

        def look() -> Any:
            export = self.get(f"/exports/{export_id}")
            assert export["status"] != "failed", export
            return export if export["status"] == "done" else None

        export: dict[str, Any] = wait_for(look)
        return export

    def unpack(self, address: str, into: Path) -> Path:
        """The one folder of a tar."""
        with tarfile.open(fileobj=io.BytesIO(self.bytes(address))) as tar:
            tar.extractall(into, filter="data")
        (folder,) = into.iterdir()
        return folder


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """The first state, and today's backend on it."""
    # Not in pytest's own folder: that is closed to the account that PostgreSQL runs under.
    with tempfile.TemporaryDirectory(prefix="upgrade-") as name, hub_serving(Path(name) / "hub") as (hub, at):
        with tarfile.open(STATE) as tar:
            tar.extractall(name, filter="data")
        folder = Path(name) / "first"
        restore_database(folder)
        environment = {
            "LEROBOT_BACKEND_DATA_DIR": str(folder / "data"),
            "LEROBOT_BACKEND_BACKUP_DIR": str(folder / "store"),
            "HF_ENDPOINT": at,
            "HF_TOKEN": TOKEN,
            "HF_HOME": str(folder / "hf"),
            "HF_HUB_DISABLE_XET": "1",
        }
        with ServiceProcess("teleop_backend", environment, "LEROBOT_BACKEND_PORT") as backend:
            yield Site(backend, folder, hub, json.loads((folder / "truth.json").read_bytes()))


def restore_database(folder: Path) -> None:
    server = EmbeddedPostgres(folder / "data")
    server.start()
    try:
        psql = server.programs.folder / "psql"
        command = [psql, "-q", "-v", "ON_ERROR_STOP=1", "-o", os.devnull, server.url()]
        subprocess.run([*command, "-f", folder / "database.sql"], check=True, timeout=PATIENCE_S)
        subprocess.run([*command, "-c", IN_TIME], check=True, timeout=PATIENCE_S)
    finally:
        server.stop()


def older(answer: Any, before: Any) -> Any:
    """Of an answer what an earlier one had, too: new fields come beside those that were there."""
    if isinstance(before, dict):
        return {key: older(answer.get(key), value) for key, value in before.items()}
    if isinstance(before, list) and len(answer) == len(before):
        return [older(each, was) for each, was in zip(answer, before, strict=True)]
    return answer


def rounded(value: Any) -> Any:
    """A ledger's figures have three digits behind the point."""
    return round(value, 3) if isinstance(value, float) else value


def check_values(frames: list[dict[str, str]], name: str, count: int, *, without: range = range(0)) -> None:
    """Every frame is there once, in order, with the values that were logged."""
    wanted = [index for index in range(count) if index not in without]
    assert [int(frame["frame_index"]) for frame in frames] == wanted
    for frame, index in zip(frames, wanted, strict=True):
        for place, joint in enumerate(("shoulder.pos", "elbow.pos", "gripper.pos")):
            value = FIRST_VALUES[name] + index + 0.25 * place
            assert float(frame[f"observation.{joint}"]) == value
            assert float(frame[f"action.{joint}"]) == -value


@pytest.mark.parametrize("name", ["kept", "plain", "whole"])
def test_sessions_read_as_they_did(site, name):
    """Frames, of which some are archived, the ledger and all that was said of a session."""
    was = site.truth["sessions"][name]
    frames = site.frames(was["number"])
    before = [*csv.DictReader((site.folder / f"frames/{name}.csv").read_text().splitlines())]
    assert older(frames, before) == before
    if name != "plain":
        check_values(frames, name, was["frames"], without=range(50, 53) if name == "kept" else range(0))
    assert older(site.get(f"/sessions/{was['number']}"), was["session"]) == was["session"]
    ledger = site.get(f"/sessions/{was['number']}/ledger")
    # Of the newest export: one that was ordered then is made at some time while this test runs.
    assert (ledger["exported"] is None) == (was["ledger"]["exported"] is None)
    assert 0 <= (ledger["exported"] or 0) <= ledger["committed"]
    then = {key: rounded(value) for key, value in was["ledger"].items() if key != "exported"}
    assert older(ledger, then) == then


@pytest.mark.parametrize("name", ["kept", "whole"])
def test_video_is_what_it_was(site, name):
    """Each file, byte for byte, and in it the pictures of the frames that are named."""
    was = site.truth["sessions"][name]
    videos = site.get(f"/sessions/{was['number']}/videos")["videos"]
    assert older(videos, was["videos"]) == was["videos"] != []
    for video in videos:
        content = site.bytes(video["content"])
        assert sha256_of(content) == video["sha256"]
        assert video["quarantine"] is None
        assert counters(content) == site.get(f"/videos/{video['id']}")["frame_indices"]


def counters(content: bytes) -> list[int]:
    """The numbers drawn into the pictures of an mp4."""
    with av.open(io.BytesIO(content)) as container:
        return [read_frame_counter(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def test_datasets_have_all_their_versions(site, tmp_path):
    """Each can be restored, file by file what it was, and the server's copy is whole."""
    assert site.truth["datasets"].keys() >= {"picking", "torn"}
    for name, versions in site.truth["datasets"].items():
        listed = site.get(f"/datasets/{ROBOT}/{name}/versions")["versions"]
        now = {version["version"]: version for version in listed}
        for was in versions:
            number = was["about"]["version"]
            assert older(now[number], was["about"]) == was["about"]
            into = tmp_path / f"{name}-{number}"
            folder = site.unpack(f"/datasets/{ROBOT}/{name}/restore?version={number}", into)
            assert {path: sha256_of(content) for path, content in contents(folder).items()} == was["files"]
        verified = httpx.post(site.url(f"/datasets/{ROBOT}/{name}/verify"), timeout=PATIENCE_S).json()
        assert verified["damaged"] == []


def test_exports_of_then_are_there(site, tmp_path):
    """What was published can be fetched; the same sessions exported now give the same rows and pictures."""
    was = site.truth["export"]
    then = site.unpack(f"/exports/{was['id']}/archive", tmp_path / "then")
    order = {"session_ids": [site.truth["sessions"]["whole"]["number"]], "repo_id": "lab/again"}
    export = httpx.post(site.url("/exports"), json=order, timeout=PATIENCE_S).json()
    site.made(export["id"])
    now = site.unpack(f"/exports/{export['id']}/archive", tmp_path / "now")
    check_same_dataset(then, now)


def check_same_dataset(then: Path, now: Path) -> None:
    """Row by row, and picture by picture, but for the one column that exports do not have any more."""
    tables = [pq.read_table(folder / "data") for folder in (then, now)]
    assert {*tables[0].column_names} - {"capture.sample_age_ms"} == {*tables[1].column_names}
    for column in tables[1].column_names:
        assert tables[0][column].to_pylist() == tables[1][column].to_pylist(), column
    videos = sorted(path.relative_to(then) for path in then.rglob("*.mp4"))
    assert videos == sorted(path.relative_to(now) for path in now.rglob("*.mp4")) != []
    for video in videos:
        assert counters((then / video).read_bytes()) == counters((now / video).read_bytes())


def test_exports_that_waited_are_made(site):
    """One that its worker was killed over, those behind it, and a push that never got through."""
    for export_id in site.truth["left_exports"]:
        export = site.made(export_id)
        assert export["numbers"]["frames"] == export["report"]["committed"] - export["report"]["excluded"]
    export_id = site.truth["export"]["id"]
    wait_for(lambda: site.get(f"/exports/{export_id}")["push"]["status"] == "done")
    assert "meta/info.json" in site.hub.files("lab/pick")


def test_an_upload_goes_on_where_it_was(site):
    """The client that comes back hears the same offset, and sends only the rest."""
    was = site.truth["upload"]
    answer = httpx.head(site.url(was["address"]), headers=TUS, timeout=PATIENCE_S)
    assert int(answer.headers["Upload-Offset"]) == was["sent"]
    done = httpx.patch(
        site.url(was["address"]),
        headers={**BODY, "Upload-Offset": str(was["sent"])},
        content=bytes.fromhex(was["rest"]),
        timeout=PATIENCE_S,
    )
    assert done.status_code == 204, done.text
    content = site.bytes(f"/datasets/{ROBOT}/byhand/files/data/file-000.parquet")
    assert hashlib.sha256(content).hexdigest() == was["sha256"]


def test_an_archived_session_comes_back(site, tmp_path):
    """Restored from the archive of then, it is exported to what it was exported to before."""
    was = site.truth["sessions"]["kept"]
    environment = {"STORE_URL": str(site.folder / "store")}
    environment["DATABASE_URL"] = EmbeddedPostgres(site.folder / "data").url()
    command = [sys.executable, "-m", "teleop_telemetry.archive", "restore", "--session", str(was["number"])]
    site.run(*command, **environment)
    frames = site.frames(was["number"])
    check_values(frames, "kept", was["frames"], without=range(50, 53))
    order = {"session_ids": [was["number"]], "repo_id": "lab/kept"}
    export = httpx.post(site.url("/exports"), json=order, timeout=PATIENCE_S).json()
    site.made(export["id"])
    then = site.unpack(f"/exports/{site.truth['kept_export']['id']}/archive", tmp_path / "then")
    check_same_dataset(then, site.unpack(f"/exports/{export['id']}/archive", tmp_path / "now"))


def test_the_spool_is_brought(site):
    """Half of a session that a killed recorder left, with its video, and one that no server has heard of."""
    spool = site.folder / "robot/spool"
    for shipper in ("shipper", "video_shipper"):
        module = f"lerobot_robot_backend.{shipper}"
        site.run(
            sys.executable, "-m", module, "--all", "--backend_url", f"ws://{site.backend.address}", str(spool)
        )
    for name in ("half", "unsent"):
        was = site.truth[name]
        stream_dir = spool / ROBOT / was["stream"]
        assert not has_unstored_video(stream_dir)
        number = read_progress(stream_dir).session_id
        check_values(site.frames(number), name, was["frames"])
        ledger = site.get(f"/sessions/{number}/ledger")
        assert (ledger["committed"], ledger["missing"], ledger["duplicates"]) == (was["frames"], 0, 0)
        seen: dict[str, list[int]] = {"front": [], "wrist": []}
        for video in sorted(
            site.get(f"/sessions/{number}/videos")["videos"], key=lambda video: video["chunk_index"]
        ):
            indexes = site.get(f"/videos/{video['id']}")["frame_indices"]
            assert counters(site.bytes(video["content"])) == indexes
            seen[video["camera_key"]] += indexes
        for camera in ledger["cameras"]:
            indexes = seen[camera["camera_key"]]
            assert indexes == sorted({*indexes})
            assert len(indexes) >= was["frames"] / 2, "most pictures were in the spool"


def test_the_agent_goes_on(site, tmp_path):
    """With its memory of then it sends nothing again that the server has."""
    words = ["--robot-id", ROBOT, "--state-dir", str(site.folder / "robot/state/lerobot_backend/sync-agent")]
    outputs = ["--watch", str(site.folder / "robot/outputs"), "--server", site.url("")]
    # 1: whether the torn dataset is still recorded, nobody knows for its first minutes in a new place.
    told = site.run(str(AGENT), "once", *words, *outputs, ends_with=(0, 1))
    sent = [json.loads(line) for line in told.splitlines() if '"stored"' in line]
    assert {line["dataset"]: line["sent_bytes"] for line in sent}.get("picking", 0) == 0
    status = json.loads(site.run(str(AGENT), "status", *words, "--json"))
    assert {row["name"]: row["state"] for row in status["datasets"]}["picking"] == "stored"
    versions = [was["about"]["version"] for was in site.truth["datasets"]["picking"]]
    assert site.get(f"/datasets/{ROBOT}/picking")["newest"]["version"] == max(versions)
    listed = site.get(f"/datasets/{ROBOT}/torn/versions")["versions"]
    newest = max(version["version"] for version in listed if version["source"] == "robot")
    there = contents(site.unpack(f"/datasets/{ROBOT}/torn/restore?version={newest}", tmp_path))
    here = contents(site.folder / "robot/outputs/torn")
    assert there == {path: content for path, content in here.items() if not path.startswith("images/")}
