"""People read the database of a running backend."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import adbc_driver_postgresql.dbapi as postgresql
import pandas
import psycopg
import pytest
from teleop_backend.postgres import EmbeddedPostgres
from teleop_backend.reading import prepare_reader
from teleop_schema.migrate import migrate
from teleop_testing.backends.processes import free_port
from teleop_testing.waiting import PATIENCE_S

SESSION = """
WITH robot AS (INSERT INTO robot VALUES ('robot_A', 'so101') RETURNING robot_id)
INSERT INTO teleop_session
       (stream_id, robot_id, robot_type, start_time, fps, state_names, action_names, delivery)
SELECT gen_random_uuid(), robot_id, 'so101', now(), 60, '{gripper.pos}', '{gripper.pos}', 'acknowledged'
  FROM robot
"""
COMMAND = Path(sys.executable).with_name("lerobot-backend")


@pytest.fixture(scope="module")
def folder():
    """Where a backend has its data."""
    with tempfile.TemporaryDirectory(prefix="psql-test-") as path:
        yield Path(path)


@pytest.fixture(scope="module")
def server(folder):
    """Its database, as it runs while the backend does; the network is closed."""
    server = EmbeddedPostgres(folder)
    server.start()
    migrate(server.url())
    prepare_reader(server)
    yield server
    server.stop()


def psql(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What the command says."""
    return subprocess.run(
        [COMMAND, "psql", *words],
        env={**os.environ, "LEROBOT_BACKEND_DATA_DIR": str(folder), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def test_it_is_psql_with_a_role_that_reads(folder, server):
    """Its arguments are psql's."""
    done = psql(folder, "--csv", "-c", "SELECT current_user, count(*) FROM teleop_frame")
    assert (done.stdout, done.stderr) == ("current_user,count\nreader,0\n", "")
    refused = psql(folder, "-c", "DELETE FROM teleop_frame")
    assert refused.returncode == 1
    assert "permission denied for table teleop_frame" in refused.stderr


def test_without_an_installed_psql_that_of_the_backend_opens(folder, server):
    """So there always is one."""
    done = psql(folder, "-Atc", "SELECT 42", PATH="/nonexistent")
    assert (done.stdout, done.stderr) == ("42\n", "")


def test_the_address_leads_to_the_socket(folder, server):
    """For any client of this user."""
    done = psql(folder, "--dsn")
    assert done.stderr == ""
    with psycopg.connect(done.stdout.strip()) as connection:
        assert connection.info.user == "reader"
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)


def test_where_no_backend_runs_it_says_so():
    """With the folder that it looked into."""
    with tempfile.TemporaryDirectory() as nothing:
        done = psql(Path(nothing), "--dsn")
    assert done.returncode == 1
    assert done.stderr == (
        f"no backend is running on {nothing}; start it (make run), or name the folder of another one with "
        "LEROBOT_BACKEND_DATA_DIR\n"
    )


def test_a_port_lets_the_reader_in_with_its_password(folder, server):
    """And nobody else; also where an earlier backend, which was killed, left a server without it."""
    server._drop_lock()
    port = free_port()
    following = EmbeddedPostgres(folder, listen=("127.0.0.1", port))
    before = following.pid
    following.start()
    try:
        assert following.pid != before
        address = psql(folder, "--dsn").stdout.strip()
        assert address.endswith(f"@127.0.0.1:{port}/teleop")
        with psycopg.connect(address) as connection:
            assert connection.execute("SELECT current_user").fetchone() == ("reader",)
        for wrong in (
            f"postgresql://reader:wrong@127.0.0.1:{port}/teleop",
            f"postgresql://teleop@127.0.0.1:{port}/teleop",
            address.replace("/teleop", "/postgres"),
        ):
            with pytest.raises(
                psycopg.OperationalError, match=r"authentication failed|no pg_hba\.conf entry"
            ):
                psycopg.connect(wrong)
        # Its own services come by the socket, which has the port's number now.
        with psycopg.connect(following.url()) as connection:
            assert connection.info.user == "teleop"
        assert psql(folder, "-Atc", "SELECT 42").stdout == "42\n"
        assert (folder / "reader.password").stat().st_mode & 0o077 == 0
    finally:
        following.stop(signal.SIGINT)
        server.start()


def test_pandas_reads_a_session_by_the_address(folder, server):
    """With a column per joint, in the types of the database."""
    with psycopg.connect(server.url()) as connection:
        connection.execute(SESSION)
        connection.execute("INSERT INTO teleop_frame VALUES (1, 0, '2026-01-01 12:00+0', '{1.5}', '{-0.1}')")
    with postgresql.connect(psql(folder, "--dsn").stdout.strip()) as connection:
        connection.execute("SELECT make_session_view(1)").close()
        connection.commit()
        frames = pandas.read_sql("SELECT * FROM session_1", connection)
    assert frames["timestamp"].tolist() == [pandas.Timestamp("2026-01-01 12:00", tz="UTC")]
    assert frames["observation.gripper.pos"].dtype == frames["action.gripper.pos"].dtype == "float32"
    assert frames["observation.gripper.pos"].tolist() == [1.5]
