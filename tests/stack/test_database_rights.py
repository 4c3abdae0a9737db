"""Which role may do what in the database."""

import json

import pytest

WRITERS = """
SELECT json_object_agg(table_name, roles) FROM (
    SELECT c.relname AS table_name,
           array(SELECT r FROM unnest(array['telemetry', 'ingest', 'export', 'reader']) AS r
                  WHERE has_table_privilege(r, c.oid, 'INSERT') OR has_table_privilege(r, c.oid, 'UPDATE')
                     OR has_table_privilege(r, c.oid, 'DELETE')) AS roles
      FROM pg_class c
     WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
       AND c.relname <> 'alembic_version') AS tables
"""


def test_each_table_has_one_writer(stack):
    """A migration that adds a table has to say in deploy/setup/rights.sql who writes it."""
    writers = json.loads(stack.query(WRITERS))
    assert len(writers) > 10
    # Each service adds what was done with it; `test_nobody_changes_the_audit` says that it does no more.
    assert writers.pop("audit") == ["telemetry", "ingest", "export"]
    # Each service notes how far it is with its own share, in rows that telemetry-service adds.
    assert writers.pop("erasure_share") == ["telemetry", "ingest", "export"]
    # Ingest notes what is to be imported, telemetry-service how far it is with it.
    assert writers.pop("dataset_import") == ["telemetry", "ingest"]
    assert writers.pop("import_video") == ["telemetry", "ingest"]
    assert {table: roles for table, roles in writers.items() if len(roles) != 1} == {}


@pytest.mark.parametrize("role", ["telemetry", "ingest", "export", "reader"])
def test_nobody_changes_the_audit(stack, role):
    """What is noted there stays as it was noted."""
    for right in ("UPDATE", "DELETE", "TRUNCATE"):
        assert stack.query(f"SELECT has_table_privilege('{role}', 'audit', '{right}')") == "f", right


@pytest.mark.parametrize("role", ["telemetry", "ingest", "export", "reader"])
def test_nobody_takes_an_erasure_back(stack, role):
    """What was erased is refused forever."""
    for table in ("erasure", "erasure_share"):
        for right in ("DELETE", "TRUNCATE"):
            assert stack.query(f"SELECT has_table_privilege('{role}', '{table}', '{right}')") == "f", right


@pytest.mark.parametrize("role", ["telemetry", "ingest", "export", "reader", "migration"])
def test_no_service_owns_anything(stack, role):
    """Roles of services can neither make nor drop tables; none is a superuser."""
    assert stack.query(f"SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = '{role}'") == "f"
    may_create = stack.query(f"SELECT has_schema_privilege('{role}', 'public', 'CREATE')")
    assert may_create == ("t" if role == "migration" else "f")


def test_reader_reads_what_people_ask_for(stack):
    """The role of people and their tools sees frames and sessions; what writes them is none of its rights."""
    for table in ("teleop_frame", "session_overview", "episode_overview"):
        assert stack.query(f"SELECT has_table_privilege('reader', '{table}', 'SELECT')") == "t"
    assert stack.query("SELECT rolconnlimit > 0 FROM pg_roles WHERE rolname = 'reader'") == "t"


def test_passwords_are_asked_for_and_kept_as_scram(stack):
    """From the network nobody comes in without one."""
    assert stack.query("SELECT count(*) FROM pg_authid WHERE rolcanlogin AND rolpassword !~ '^SCRAM'") == "0"
    rules = "SELECT DISTINCT auth_method FROM pg_hba_file_rules WHERE type LIKE 'host%'"
    assert stack.query(rules) == "scram-sha-256"
