"""The roles of the containers may do what their services' statements do. Other tests run as the owner."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RIGHTS = (ROOT / "deploy/setup/rights.sql").read_text()
SERVICES = {"telemetry": "telemetry-service", "ingest": "video-ingest-service", "export": "export-service"}
# What a statement does with the table whose name follows.
DONE_BY = {
    "INSERT INTO": "INSERT",
    "UPDATE": "UPDATE",
    "DELETE FROM": "DELETE",
    "FROM": "SELECT",
    "JOIN": "SELECT",
}
STATEMENT = re.compile(rf"\b({'|'.join(DONE_BY)})\s+(?:ONLY\s+)?([a-z_]+)")
MAKE_ROLE = """
DO $$ BEGIN
    CREATE ROLE {role};
EXCEPTION WHEN duplicate_object THEN NULL; END $$
"""
TABLES = (
    "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')"
)


def uses_of(service: str) -> set[tuple[str, str]]:
    """(what is done, name of what may be a table) in the source of a service."""
    sources = (ROOT / "services" / service / "src").rglob("*.py")
    return {
        (DONE_BY[how], name) for path in sources for how, name in STATEMENT.findall(path.read_text("utf-8"))
    }


@pytest.mark.parametrize("role", [*SERVICES])
async def test_a_service_may_do_what_its_statements_do(database, role):
    """A statement about another table has to be followed by a line in deploy/setup/rights.sql."""
    for each in SERVICES:
        await database.connection.execute(MAKE_ROLE.format(role=each))
    await database.connection.execute(RIGHTS)
    tables = {row["relname"] for row in await database.fetch(TABLES)}
    used = {(right, table) for right, table in uses_of(SERVICES[role]) if table in tables}
    assert len(used) > 10
    refused = {
        (right, table)
        for right, table in used
        if not await database.value(f"SELECT has_table_privilege('{role}', '{table}', '{right}')")
    }
    assert refused == set()
