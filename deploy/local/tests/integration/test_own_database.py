"""A PostgreSQL of one's own, with whatever its role, its database or a pooler brings along."""

import asyncio
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from uuid import UUID

import httpx
import psutil
import psycopg
import pyarrow as pa
import pytest
from adbc_driver_manager import AdbcStatement
from psycopg.conninfo import conninfo_to_dict
from teleop_export.app import export_part
from teleop_export.hub.settings import HubSettings
from teleop_export.tables.chunk_table import ChunkReader
from teleop_export.tables.database import open_pool as open_export_pool
from teleop_export.webhooks.settings import WebhookSettings
from teleop_runtime.access.sessions import PLAIN_NAME
from teleop_runtime.postgres.frames import FrameReader
from teleop_runtime.postgres.pool import open_pool
from teleop_runtime.serving.app import CannotStart, assemble
from teleop_runtime.trouble import FROZEN, SILENT
from teleop_telemetry.app import telemetry_part
from teleop_testing.backends.processes import free_port, own_postgres
from teleop_testing.backends.serving import serving
from teleop_testing.robots.lines import connect
from teleop_testing.robots.tus import BODY, DATASET, TUS, metadata_of
from teleop_testing.waiting import PATIENCE_S, until
from teleop_video_ingest.app import ingest_part

ODD = {
    "client_encoding": "LATIN1",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Asia/Seoul",
    "extra_float_digits": "-5",
    "bytea_output": "escape",
    "synchronous_commit": "off",
    "statement_timeout": "150ms",
    "lock_timeout": "100ms",
    "idle_in_transaction_session_timeout": "100ms",
    "default_transaction_isolation": "serializable",
}
WANTED = {
    "client_encoding": "UTF8",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "synchronous_commit": "on",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "default_transaction_isolation": "read committed",
}
TELL = f"SELECT name, current_setting(name) FROM unnest('{{{','.join(WANTED)}}}'::text[]) AS wanted (name)"


async def settings_of_every_driver(url):
    """What holds in the sessions of asyncpg (also when given back and lent again), psycopg and ADBC."""
    found = {}
    async with open_pool(url, max_size=1) as pool:
        for turn in ("asyncpg", "asyncpg again"):
            async with pool.acquire() as connection:
                found[turn] = dict(await connection.fetch(TELL))
    async with open_export_pool(url) as pool, pool.connection() as connection:
        rows = await (await connection.execute(TELL)).fetchall()
        found["psycopg"] = {row["name"]: row["current_setting"] for row in rows}
    return found | await asyncio.to_thread(settings_of_readers, url)


def settings_of_readers(url):
    chunks = ChunkReader(url)
    rows = chunks._connection.execute(TELL).fetchall()
    chunks.close()
    with FrameReader(url) as frames, AdbcStatement(frames._connection) as statement:
        statement.set_sql_query(TELL)
        stream, _ = statement.execute_query()
        table = pa.RecordBatchReader._import_from_c(stream.address).read_all()
    adbc = dict(zip(*(column.to_pylist() for column in table.columns), strict=True))
    return {"chunks": {row["name"]: row["current_setting"] for row in rows}, "adbc": adbc}


@pytest.fixture
def odd_url(database_url):
    """A database that brings other settings along than PostgreSQL's own."""
    with psycopg.connect(database_url, autocommit=True) as admin:
        for name, value in ODD.items():
            admin.execute(f"ALTER DATABASE {admin.info.dbname} SET {name} = '{value}'")
    return database_url


async def test_connections_set_what_they_need(odd_url):
    """Whatever the role or the database has set."""
    found = await settings_of_every_driver(odd_url)
    assert found == dict.fromkeys(("asyncpg", "asyncpg again", "psycopg", "chunks", "adbc"), WANTED)


@contextmanager
def pgbouncer(url, postgres, mode):
    """Address of a PgBouncer with its default configuration but for `mode`, on the way to the database.

    Run by the account of the server, to which alone its socket is open.
    """
    about = conninfo_to_dict(url)
    account = {"user": psutil.Process(postgres.pid).uids().real} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="pgbouncer-") as folder, tempfile.TemporaryFile() as log:
        os.chmod(folder, 0o755)
        configuration = Path(folder, "pgbouncer.ini")
        listens, attempts = False, 0
        while not listens:
            # Somebody else may have taken the port meanwhile: then PgBouncer ends.
            attempts += 1
            assert attempts < 5
            port = free_port()
            configuration.write_text(
                f"[databases]\n{about['dbname']} = host={about['host']} user={about['user']}\n"
                f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
                f"auth_type = any\nunix_socket_dir =\npool_mode = {mode}\n"
            )
            command = [str(PGBOUNCER), str(configuration)]
            process = subprocess.Popen(command, cwd="/", stdout=log, stderr=log, **account)
            while process.poll() is None and not listens:
                with socket.socket() as probe:
                    listens = probe.connect_ex(("127.0.0.1", port)) == 0
                time.sleep(0.01)
        try:
            yield f"postgresql://{about['user']}@127.0.0.1:{port}/{about['dbname']}"
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
needs_pgbouncer = pytest.mark.skipif(PGBOUNCER is None, reason="needs Debian's package pgbouncer")


@needs_pgbouncer
async def test_pgbouncer_in_session_mode(odd_url, postgres):
    """Works with its default configuration, and what is needed is set behind it."""
    with pgbouncer(odd_url, postgres, "session") as url:
        found = await asyncio.wait_for(settings_of_every_driver(url), PATIENCE_S)
    assert all(settings == WANTED for settings in found.values()), found


POOLS = {"asyncpg": partial(open_pool, max_size=2), "psycopg": open_export_pool}


@needs_pgbouncer
@pytest.mark.parametrize("driver", POOLS)
async def test_pgbouncer_in_transaction_mode_is_named(database_url, postgres, driver):
    """It says what to set, instead of losing locks and settings."""
    with (
        pgbouncer(database_url, postgres, "transaction") as url,
        pytest.raises(CannotStart, match="pool_mode = session"),
    ):
        async with asyncio.timeout(PATIENCE_S), POOLS[driver](url):
            pass


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_another_encoding_is_named(database_url, postgres, encoding):
    """In one line, with what to do; SQL_ASCII is what `initdb` chooses where no language is set."""
    with psycopg.connect(database_url, autocommit=True) as admin:
        name = f"{admin.info.dbname}_encoding"
        admin.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LOCALE 'C'")
        try:
            done = subprocess.run(
                [sys.executable, "-m", "teleop_schema.migrate"],
                env={**os.environ, "DATABASE_URL": postgres.url(name)},
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
            )
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"the database {name} has the encoding {encoding}, but must have UTF8" in done.stderr


@asynccontextmanager
async def everything_on(url, folder):
    """HTTP client of all services on one database, with its address."""
    parts = [
        telemetry_part(url),
        ingest_part(url, str(folder / "store")),
        export_part(
            url,
            folder / "exports",
            str(folder / "store"),
            HubSettings(),
            WebhookSettings(webhooks="hooks.lab"),
            work_here=False,
        ),
    ]
    async with (
        serving(assemble("all", parts, exposure="local")) as address,
        httpx.AsyncClient(base_url=f"http://{address}", timeout=PATIENCE_S) as http,
    ):
        yield http, address


DATABASES = {"database", "ingest database", "export database"}


async def reasons(http):
    answer = await http.get("/readyz")
    assert answer.status_code == 503
    return {name: reason for name, reason in answer.json().items() if name in DATABASES}


async def test_database_that_is_not_migrated(database_url):
    """telemetry-service is not ready and says what to run, to robots too."""
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute("DROP TABLE alembic_version; ALTER TABLE teleop_session RENAME TO gone")
    app = assemble("telemetry", [telemetry_part(database_url)], exposure="local")
    async with (
        serving(app) as address,
        httpx.AsyncClient(base_url=f"http://{address}", timeout=PATIENCE_S) as http,
    ):
        assert "python -m teleop_schema.migrate" in (await reasons(http))["database"]
        async with connect(f"ws://{address}/ws/log/robot_A") as websocket:
            await websocket.send('{"observation": {"a.pos": 1}, "action": {"a.pos": 1}}')
            told = str(await websocket.recv())
    assert "has not been migrated" in told
    assert "python -m teleop_schema.migrate" in told


async def test_database_that_lacks_the_newest_migration(database_url, tmp_path):
    """Every service says which."""
    async with everything_on(database_url, tmp_path) as (http, _):
        with psycopg.connect(database_url, autocommit=True) as admin:
            admin.execute("UPDATE alembic_version SET version_num = '0001'")
        found = await reasons(http)
    assert found.keys() == DATABASES
    assert all("is at migration 0001" in reason for reason in found.values())


async def test_read_only_database(database_url, tmp_path):
    """No service is ready, and an upload is to be sent again later."""
    async with everything_on(database_url, tmp_path) as (http, _):
        with psycopg.connect(database_url, autocommit=True) as admin:
            admin.execute(f"ALTER DATABASE {admin.info.dbname} SET default_transaction_read_only = on")
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

        async def told():
            found = await reasons(http)
            return found if all("read-only" in reason for reason in found.values()) else None

        assert (await until(told)).keys() == DATABASES
        headers = {**TUS, "Upload-Length": "5", **metadata_of(DATASET)}
        upload = await http.post("/files", headers=headers)
    assert (upload.status_code, upload.json()["code"]) == (503, "storage_unavailable")
    assert "read-only" in upload.json()["detail"]


FILE = {"path": "x.json", "size_bytes": 2, "sha256": hashlib.sha256(b"{}").hexdigest()}
PLAN = {"file": {"kind": "dataset", "robot_id": "robot_A", "dataset": "ds", **FILE}}
FORM = {"robot_id": "robot_A", "dataset": "ds", "path": "x.json"}
OPENING = {**TUS, "Upload-Length": "5", **metadata_of(DATASET)}
CLOCKED = {"robot_id": "robot_A", "session": "1", "camera_key": "front", "chunk_index": "0"}
CLOCKED |= {"start_timestamp": "2026-01-05T10:00:00Z", "end_timestamp": "1767607201.5"}
UPLOAD, BACKUP = f"/files/{UUID(int=1)}", "/datasets/robot_A/ds"
# What every address is asked with to which an empty request is not enough.
OF_OUR_PAGE = {"Sec-Fetch-Site": "same-origin"}
REQUESTS = {
    ("POST", "/files"): ("/files", {"headers": OPENING}),
    ("HEAD", "/files/{upload_id}"): (UPLOAD, {"headers": TUS}),
    ("PATCH", "/files/{upload_id}"): (UPLOAD, {"headers": {**BODY, "Upload-Offset": "0"}}),
    ("DELETE", "/files/{upload_id}"): (UPLOAD, {"headers": TUS}),
    ("POST", "/files/{upload_id}"): (UPLOAD, {"headers": {**TUS, "X-HTTP-Method-Override": "DELETE"}}),
    ("POST", "/files/plan"): ("/files/plan", {"json": PLAN}),
    ("POST", "/files/known"): ("/files/known", {"json": {"robot_id": "robot_A"}}),
    ("POST", "/upload/video"): ("/upload/video", {"data": CLOCKED, "files": {"file": ("x", b"mp4")}}),
    ("POST", "/upload/sync"): ("/upload/sync", {"data": FORM, "files": {"file": ("x", b"{}")}}),
    ("PATCH", "/sessions/{session_id}"): ("/sessions/1", {"json": {"note": "x"}}),
    ("PATCH", "/sessions/{session_id}/episodes/{episode_index}"): (
        "/sessions/1/episodes/0",
        {"json": {"outcome": "success"}},
    ),
    ("POST", "/sessions/{session_id}/episodes/{episode_index}/undo"): (
        "/sessions/1/episodes/0/undo",
        {"json": {}},
    ),
    ("PUT", "/flags/{flag}"): ("/flags/jerk", {"json": {"threshold": 5}}),
    ("PUT", "/outcome-reasons/{reason}"): (
        "/outcome-reasons/late",
        {"json": {"outcome": "failure", "meaning": "It came too late"}},
    ),
    ("POST", "/datasets/{robot_id}/{name}/versions"): (
        f"{BACKUP}/versions",
        {"json": {"files": [FILE], "total_episodes": 1, "total_frames": 1, "finalised": True}},
    ),
    ("POST", "/exports"): ("/exports", {"json": {"session_ids": [1], "repo_id": "lab/pick"}}),
    ("POST", "/exports/{export_id}/push"): ("/exports/1/push", {"json": {}}),
    ("POST", "/exports/{export_id}/repeat"): ("/exports/1/repeat", {"json": {"labels": "now"}}),
    ("GET", "/exports/{export_id}/compare"): ("/exports/1/compare?with=1", {}),
    ("POST", "/webhooks"): ("/webhooks", {"json": {"url": "https://hooks.lab", "events": ["export.done"]}}),
    ("POST", "/tokens"): ("/tokens", {"json": {"name": "anna", "role": "viewer"}}),
    ("POST", "/join"): ("/join", {"json": {"code": "K7QF-2M9P"}}),
    ("POST", "/people"): ("/people", {"json": {"name": "anna", "role": "viewer"}}),
    ("POST", "/join/pools"): ("/join/pools", {"json": {"name": "arms", "prefix": "arm_"}}),
    ("POST", "/join/requests"): ("/join/requests", {"json": {"robot_id": "arm_07", "secret": "A" * 43}}),
    ("POST", "/erasures"): ("/erasures", {"json": {"session_id": 1}}),
    ("PUT", "/robots/{robot_id}/quota"): ("/robots/robot_A/quota", {"json": {"limit_bytes": 1}}),
    ("POST", "/sign-in"): ("/sign-in", {"json": {"code": "A" * 43}, "headers": OF_OUR_PAGE}),
    ("POST", "/sign-out"): ("/sign-out", {"headers": {**OF_OUR_PAGE, "Cookie": f"{PLAIN_NAME}={'A' * 43}"}}),
}
IN_ADDRESSES = {"robot_id": "robot_A", "name": "ds", "upload_id": UUID(int=1), "export_id": 1}
IN_ADDRESSES |= {"path": "x.json", "session_id": 1, "video_id": 1, "episode_index": 0, "token_id": 1}
IN_ADDRESSES |= {"person": "anna", "pool": "arms", "code": "K7QF-2M9P", "erasure_id": 1}
IN_ADDRESSES |= {"reason": "late", "webhook_id": 1, "flag": "jerk"}

# Tags of addresses that ask no database, and single ones.
WITHOUT_DATABASE = {"server", "ws", "authority", "me", "console"}
ALONE_WITHOUT = {("get", "/sign-in"), ("get", "/exports/destinations")}


@contextmanager
def frozen(postgres):
    """PostgreSQL and all its processes stand still for the block."""
    server = psutil.Process(postgres.pid)
    processes = [server, *server.children()]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


async def answers_of_all(http):
    """The answer of every address that needs the database to a request in order, by method and path."""
    document = (await http.get("/openapi.json")).json()
    asked = {
        (method.upper(), path): (path.format(**IN_ADDRESSES), {})
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if method != "options"
        and not WITHOUT_DATABASE & {*operation["tags"]}
        and (method, path) not in ALONE_WITHOUT
    }
    answers = await asyncio.gather(
        *(
            http.request(method, *[path], **content)
            for (method, _), (path, content) in (asked | REQUESTS).items()
        )
    )
    return dict(zip(asked | REQUESTS, answers, strict=True))


async def test_frozen_database(tmp_path):
    """Readiness is refused, and every address says that the database has not answered, however many wait
    for it at once."""
    with own_postgres() as postgres:
        async with everything_on(postgres.url(), tmp_path) as (http, _):
            with frozen(postgres):
                assert await reasons(http) == dict.fromkeys(DATABASES, f"{FROZEN} (no answer within 1.5 s)")
                answers = await answers_of_all(http)
            assert len(answers) > 30
            told = {
                asked: (answer.status_code, answer.json()["detail"] if answer.content else SILENT)
                for asked, answer in answers.items()
            }
            assert {asked: said for asked, said in told.items() if said != (503, SILENT)} == {}
            await until(partial(is_ready, http))


async def is_ready(http):
    return (await http.get("/readyz")).status_code == 200
