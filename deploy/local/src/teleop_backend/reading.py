"""How people reach the database: the role `reader`, its password, and its address."""

import secrets
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql
from teleop_schema.certificates.secret_file import write_secret
from teleop_schema.migrations.reader import READER, let_reader_read, make_reader

from teleop_backend.postgres import DATABASE, EmbeddedPostgres, RunningServer

# 192 bits, because nobody has to type it.
PASSWORD_BYTES = 24
# Where a server listens that listens everywhere: this machine is one such place.
EVERYWHERE = ("*", "0.0.0.0", "::")  # noqa: S104


def prepare_reader(postgres: EmbeddedPostgres) -> None:
    """Have the role in a running, migrated server, with the password in the folder of the data."""
    password = _password(postgres.folder)
    with psycopg.connect(postgres.url()) as connection:
        make_reader(connection)
        let_reader_read(connection)
        # As SCRAM, so that no log of the server shows it.
        verifier = connection.pgconn.encrypt_password(password.encode(), READER.encode(), b"scram-sha-256")
        connection.execute(
            sql.SQL("ALTER ROLE {} PASSWORD {}").format(
                sql.Identifier(READER), sql.Literal(verifier.decode())
            )
        )


def reader_address(folder: Path, server: RunningServer) -> str:
    """The `postgresql://` address for the role: over the network if the server listens there, with the
    password in `folder`; else by the socket, which only its owner can reach."""
    if not server.address:
        return server.socket_url(READER)
    host = "localhost" if server.address in EVERYWHERE else server.address
    name = f"[{host}]" if ":" in host else host
    return f"postgresql://{READER}:{quote(_password(folder))}@{name}:{server.port}/{DATABASE}"


def _password(folder: Path) -> str:
    """The role's password, made if there is none yet."""
    path = folder / "reader.password"
    if not path.exists():
        write_secret(path, secrets.token_urlsafe(PASSWORD_BYTES))
    return path.read_text()
