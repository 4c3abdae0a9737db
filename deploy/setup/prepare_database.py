"""Brings the database of the stack to where its services need it: roles, migrations, rights.

Runs before the services, at each start, and changes only what is not yet so. The superuser is used for the
roles alone. The schema belongs to the role `migration`; each service has a role of its own, which may do what
rights.sql says. People read with the role `reader`, if it has a password. Passwords lie in /run/secrets, one
file per role; DATABASE_ADDRESS is host:port/database.
"""

import os
import sys
from pathlib import Path
from typing import LiteralString, cast

import psycopg
from make_secrets import MIGRATION, READER, SERVICES, SUPERUSER
from psycopg import sql
from teleop_schema.migrate import UnfitDatabase, migrate
from teleop_schema.migrations.reader import let_reader_read, make_reader

PASSWORDS = Path("/run/secrets")
RIGHTS = Path(__file__).with_name("rights.sql")


def main() -> None:
    has_reader = (PASSWORDS / READER).exists()
    with psycopg.connect(_url(SUPERUSER)) as connection:
        for role in (MIGRATION, *SERVICES):
            _make_role(connection, role)
        _give_database(connection)
        if has_reader:
            _make_role(connection, READER)
            make_reader(connection)
    try:
        migrate(_url(MIGRATION))
    except UnfitDatabase as error:
        sys.exit(str(error))
    with psycopg.connect(_url(MIGRATION)) as connection:
        connection.execute(cast(LiteralString, RIGHTS.read_text("utf-8")))
        if has_reader:
            let_reader_read(connection)


def _url(role: str) -> str:
    return f"postgresql://{role}:{_password(role)}@{os.environ['DATABASE_ADDRESS']}"


def _password(role: str) -> str:
    return (PASSWORDS / role).read_text("utf-8")


def _make_role(connection: psycopg.Connection, role: str) -> None:
    """Make the role if it is new; give it its password, as SCRAM, so that no log of the server shows it."""
    if not connection.execute("SELECT FROM pg_roles WHERE rolname = %s", (role,)).rowcount:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
    verifier = connection.pgconn.encrypt_password(_password(role).encode(), role.encode(), b"scram-sha-256")
    connection.execute(
        sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(verifier.decode()))
    )


def _give_database(connection: psycopg.Connection) -> None:
    """Let the database be that of the migrations, and nobody but the services come in."""
    database = sql.Identifier(connection.info.dbname)
    roles = sql.SQL(", ").join(map(sql.Identifier, SERVICES))
    for statement in (
        sql.SQL("ALTER DATABASE {} OWNER TO {}").format(database, sql.Identifier(MIGRATION)),
        sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database),
        sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, roles),
    ):
        connection.execute(statement)


if __name__ == "__main__":
    main()
