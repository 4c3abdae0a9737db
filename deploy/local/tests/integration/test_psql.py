"""People read the database of a running backend."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb
import pandas
import psycopg
import pytest
import sqlalchemy
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
DOCUMENTS = Path(__file__).parents[4] / "docs"
# In the one block that needs an extension of DuckDB.
ATTACH = "INSTALL postgres"
# A row of what DuckDB prints: no episode, and the highest action.
SHOWN = r"NULL [^\d]*-0\.1\b"
TIME_RANGE = "'2026-01-01T11:00:00Z' AND '2026-01-01T13:00:00Z'"
JOINTS = ["observation.gripper.pos", "action.gripper.pos"]


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


@pytest.fixture(scope="module")
def dsn(folder, server) -> str:
    """The address for other tools; session 1 has a frame, and its view."""
    with psycopg.connect(server.url()) as connection:
        connection.execute(SESSION)
        connection.execute("INSERT INTO teleop_frame VALUES (1, 0, '2026-01-01 12:00+0', '{1.5}', '{-0.1}')")
    address = psql(folder, "--dsn").stdout.strip()
    with psycopg.connect(address) as connection:
        connection.execute("SELECT make_session_view(1)")
    return address


def blocks(document: str, kind: str, after: str = "") -> list[str]:
    """The code of that kind in a document, as it stands there; of all, or of what is below a heading."""
    text = (
        (DOCUMENTS / document).read_text().partition(after)[2]
        if after
        else (DOCUMENTS / document).read_text()
    )
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_pandas_polars_duckdb_and_sqlalchemy_read_a_session(dsn, capsys):
    """By the lines of the document, one after the other, which give what was recorded."""
    known = {"dsn": dsn}
    read = {}
    for code in blocks("howto/sql.md", "python"):
        if ATTACH in code:
            exec("import duckdb", known)
            continue
        exec(code, known)
        read[type(known["frames"]).__module__.partition(".")[0]] = known["frames"]
    pandas_frames = read["pandas"]
    assert pandas_frames["timestamp"].tolist() == [pandas.Timestamp("2026-01-01 12:00", tz="UTC")]
    assert [pandas_frames[name].dtype for name in JOINTS] == ["float32", "float32"]
    assert pandas_frames[JOINTS[0]].tolist() == [1.5]
    assert read["polars"][JOINTS[0]].to_list() == read["pyarrow"][JOINTS[0]].to_pylist() == [1.5]
    assert re.search(SHOWN, capsys.readouterr().out)
    with known["engine"].connect() as connection:
        found = connection.execute(sqlalchemy.text(f'SELECT "{JOINTS[0]}" FROM session_1')).scalars().all()
    known["engine"].dispose()
    assert found == [1.5]


def test_duckdb_attaches_the_database(dsn, capsys):
    """By the lines of the document."""
    (code,) = (each for each in blocks("howto/sql.md", "python") if ATTACH in each)
    try:
        exec(code, {"dsn": dsn})
    except (duckdb.IOException, duckdb.HTTPException) as error:
        if "extension" not in str(error):
            raise
        pytest.skip("DuckDB's extension for PostgreSQL can't be downloaded here")
    assert re.search(SHOWN, capsys.readouterr().out)


def test_grafana_draws_joints_and_rates(dsn):
    """By the queries of the document; the macro is what Grafana makes of it."""
    found = []
    for query in blocks("howto/sql.md", "", after="## Grafana"):
        if "$__timeFilter" in query:
            made = re.sub(
                r"\$__timeFilter\((.+?)\)",
                r"\1 BETWEEN '2026-01-01T11:00:00Z' AND '2026-01-01T13:00:00Z'",
                query,
            )
            with psycopg.connect(dsn) as connection:
                found.append([row[1:] for row in connection.execute(made)])
    assert found == [[(1.5, pytest.approx(-0.1))], [(1,)]]


def test_every_example_of_the_tables_can_be_asked(dsn):
    """As the reader."""
    examples = blocks("tables.md", "sql")
    assert len(examples) > 3
    with psycopg.connect(dsn) as connection:
        for example in examples:
            connection.execute(example)
