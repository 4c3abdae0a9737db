"""The stack with its files on an S3 server, and with its database on one of its own, both on this machine."""

import hashlib
from collections.abc import Iterator

import httpx
import psycopg
import pytest
from recorder import record
from stack import REPOSITORY, Stack, is_open
from teleop_client.uploading import Uploader
from teleop_schema.files import FilePlan
from teleop_testing.backends.processes import free_port
from teleop_testing.backends.s3 import S3Folder, s3_server
from teleop_testing.datasets.files import dataset_file
from teleop_testing.waiting import PATIENCE_S, until, wait_for
from uploads import Bytes

pytestmark = pytest.mark.long("two stacks more, one of them beside a database of its own")
PARTS_BYTES = 12 * 1024 * 1024


@pytest.fixture(scope="module")
def gateway(engine) -> str:
    """This machine's address on the containers' bridge, by which they reach it.

    A container on it is asked: an engine that has run none yet says of its bridge only what subnet it has.
    """
    container = engine.containers.run("postgres:18", ["sleep", "infinity"], detach=True, network="bridge")
    try:
        container.reload()
        address: str = container.attrs["NetworkSettings"]["Networks"]["bridge"]["Gateway"]
    finally:
        container.remove(force=True, v=True)
    return address


@pytest.fixture(scope="module")
def bucket(gateway) -> Iterator[S3Folder]:
    """A place on an S3 server of this machine."""
    with s3_server(gateway) as root:
        yield root.empty_one()


@pytest.fixture(scope="module")
def s3_stack(engine, stack, bucket) -> Iterator[Stack]:
    """A stack of its own, of the same images, with deploy/compose.s3.yaml."""
    stack = Stack(engine, "lerobot-backend-test-s3", free_port())
    files = [REPOSITORY / "compose.yaml", REPOSITORY / "deploy/compose.s3.yaml"]
    stack.environment |= bucket.environment | {
        "COMPOSE_FILE": ":".join(map(str, files)),
        "STORE_URL": bucket.address,
    }
    stack.remove()
    stack.up()
    yield stack
    stack.remove()


async def test_everything_is_kept_in_the_bucket(s3_stack, bucket, tmp_path):
    """Recorded video, a file of several parts, and what an export is made of; the volume holds no object."""
    ledger = record(s3_stack.url, tmp_path / "spool")
    content = hashlib.shake_256(b"parquet").digest(PARTS_BYTES)
    file = dataset_file(content, "data/chunk-000/file-000.parquet", dataset="someone/picking")
    async with Uploader(s3_stack.url) as uploader:
        await uploader.upload(FilePlan(file=file), Bytes(content))
    async with httpx.AsyncClient(base_url=s3_stack.url, timeout=PATIENCE_S) as client:
        stored = await client.get(f"/datasets/robot_A/someone/picking/files/{file.path}")
        assert hashlib.sha256(stored.content).hexdigest() == file.sha256
        videos = (await client.get(f"/sessions/{ledger['session_id']}/videos")).json()["videos"]
        for video in videos:
            played = (await client.get(video["content"])).content
            assert hashlib.sha256(played).hexdigest() == video["sha256"]
        hashes = {file.sha256, *(video["sha256"] for video in videos)}
        assert hashes <= {key.rsplit("/", 1)[1] for key in bucket.object_keys() if "/objects/" in key}
        order = {"session_ids": [ledger["session_id"]], "repo_id": "someone/waving"}
        number = (await client.post("/exports", json=order)).json()["id"]

        async def ended() -> dict[str, object] | None:
            export = (await client.get(f"/exports/{number}")).json()
            return export if export["status"] not in ("queued", "running") else None

        export = await until(ended, every_s=0.2)
    assert export["status"] == "done", f"{export}\n{s3_stack.compose('logs', '--tail=50', 'export-worker')}"
    assert export["numbers"]["videos"] == 1
    find = ["find", "/files", "-type", "f", "-not", "-path", "/files/.exports/*"]
    assert s3_stack.container("video-ingest-service").exec_run(find).output == b""


def test_a_backup_says_what_it_leaves_to_the_bucket(s3_stack, bucket, tmp_path):
    """The database is copied; whose matter the files are is told."""
    told = s3_stack.script("backup.sh", str(tmp_path / "backup"))
    assert f"without the files in {bucket.address}" in told


@pytest.fixture
def database(engine, gateway) -> Iterator[str]:
    """Address of an empty PostgreSQL outside of the stack, for a user that owns its database and no more."""
    port = free_port()
    superuser = f"host={gateway} port={port} user=postgres password=superuser dbname=lerobot"
    server = engine.containers.run(
        "postgres:18",
        environment={"POSTGRES_PASSWORD": "superuser", "POSTGRES_DB": "lerobot"},
        ports={"5432/tcp": (gateway, port)},
        detach=True,
    )
    try:
        wait_for(lambda: is_open(superuser), every_s=0.2)
        with psycopg.connect(superuser, autocommit=True) as connection:
            connection.execute("CREATE ROLE lab LOGIN PASSWORD 'lab'")
            connection.execute("ALTER DATABASE lerobot OWNER TO lab")
        yield f"postgresql://lab:lab@{gateway}:{port}/lerobot"
    finally:
        server.remove(force=True, v=True)


def test_the_database_may_be_elsewhere(s3_stack, database, tmp_path):
    """With deploy/compose.postgres.yaml no container has it; all is recorded there, a backup refuses."""
    s3_stack.environment["COMPOSE_FILE"] += f":{REPOSITORY / 'deploy/compose.postgres.yaml'}"
    s3_stack.environment["DATABASE_URL"] = database
    # The files in the bucket belong to the database that was in the container.
    s3_stack.environment["STORE_URL"] += "/elsewhere"
    s3_stack.up("--remove-orphans")
    assert s3_stack.containers("postgres", all=True) == []
    record(s3_stack.url, tmp_path / "spool")
    with psycopg.connect(database) as connection:
        (sessions,) = connection.execute("SELECT count(*) FROM teleop_session").fetchone()
    assert sessions == 1
    with pytest.raises(AssertionError, match="the database is elsewhere"):
        s3_stack.script("backup.sh", str(tmp_path / "backup"))
    assert not (tmp_path / "backup").exists()
