"""deploy/compose.sql.yaml: people's tools on this machine read the stack's database through its port."""

import subprocess
from collections.abc import Iterator

import adbc_driver_postgresql.dbapi as postgresql
import pandas
import psycopg
import pytest
from recorder import FRAMES, state_of
from stack import REPOSITORY, Stack
from teleop_backend.postgres.programs import bundled_programs
from teleop_testing.backends.processes import free_port
from teleop_testing.waiting import PATIENCE_S

pytestmark = pytest.mark.long("the stack is made again with a port for the database, and without")
FILES = (REPOSITORY / "compose.yaml", REPOSITORY / "deploy/compose.sql.yaml")


@pytest.fixture(scope="module")
def address(stack: Stack) -> Iterator[str]:
    """Of the database for the role `reader`, with the password that the command of the document prints."""
    before, port = dict(stack.environment), free_port()
    stack.environment |= {
        "COMPOSE_FILE": ":".join(map(str, FILES)),
        "LEROBOT_BACKEND_SQL_PORT": str(port),
    }
    stack.up()
    words = ("run", "--rm", "--no-deps", "-T", "migrate", "cat", "/run/secrets/reader")
    yield f"postgresql://reader:{stack.compose(*words).strip()}@127.0.0.1:{port}/lerobot"
    stack.environment = before
    stack.up()


def test_psql_asks_a_session(address, recorded):
    """Its table and its view, which is made by asking for it."""
    number = recorded["session_id"]
    for statement, told in (
        (f"SELECT frames FROM session_overview WHERE id = {number}", str(FRAMES)),
        (f"SELECT make_session_view({number})", f"session_{number}"),
        (f"SELECT count(*) FROM session_{number}", str(FRAMES)),
    ):
        command = [bundled_programs().folder / "psql", "--no-psqlrc", "-At", "-c", statement, address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
        assert done.stdout.strip() == told


def test_pandas_reads_a_session(address, recorded):
    """Every sample with one column per joint, and the values that were recorded."""
    number = recorded["session_id"]
    with postgresql.connect(address) as connection:
        connection.execute(f"SELECT make_session_view({number})").close()
        connection.commit()
        frames = pandas.read_sql(f"SELECT * FROM session_{number} ORDER BY frame_index", connection)
    assert frames["frame_index"].tolist() == list(range(FRAMES))
    joints = [name for name in frames if name.startswith("observation.")]
    assert frames.loc[FRAMES - 1, joints].tolist() == pytest.approx(state_of(FRAMES - 1), rel=1e-5)


def test_reader_changes_nothing(address, recorded):
    """And nobody comes in with another password."""
    with psycopg.connect(address) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("DELETE FROM teleop_frame")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(address.replace("reader:", "reader:not-"))
