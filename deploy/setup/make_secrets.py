"""Makes what is secret, once: a password per database role, and for each service the address it is part of.

Runs as the first container of the stack, with a volume per reader below /secrets:

    /secrets/setup/<role>          a password per role; kept, everything else is made of these
    /secrets/postgres/password     that of the superuser
    /secrets/<service>/DATABASE_URL
    /secrets/proxy/authority.*     the certificate that signs the proxy's, with its key
    /secrets/telemetry/LEROBOT_BACKEND_AUTHORITY
                                   the same certificate, for robots that join

No service sees the volume of another. DATABASE_ADDRESS is host:port/database; empty: the database is
elsewhere, and its address is given otherwise.
"""

import os
import secrets
from pathlib import Path

from teleop_schema.certificates.authority import Authority
from teleop_schema.certificates.secret_file import write_secret

FOLDER = Path("/secrets")
SUPERUSER = "postgres"
MIGRATION = "migration"
SERVICES = ("telemetry", "ingest", "export")
# That of people and their tools.
READER = "reader"
PASSWORD_BYTES = 32
# The database's own user, which is another one, reads by its group.
GROUP_READS = 0o640


def main() -> None:
    if address := os.environ["DATABASE_ADDRESS"]:
        _make_passwords(address)
    authority = Authority.kept_in(FOLDER / "proxy").signed.certificate
    write_secret(FOLDER / "telemetry" / "LEROBOT_BACKEND_AUTHORITY", authority)


def _make_passwords(address: str) -> None:
    passwords = {role: _password(role) for role in (SUPERUSER, MIGRATION, *SERVICES, READER)}
    write_secret(FOLDER / "postgres" / "password", passwords[SUPERUSER], GROUP_READS)
    for service in SERVICES:
        url = f"postgresql://{service}:{passwords[service]}@{address}"
        write_secret(FOLDER / service / "DATABASE_URL", url)


def _password(role: str) -> str:
    """The role's password, made if there is none yet."""
    path = FOLDER / "setup" / role
    if not path.exists():
        write_secret(path, secrets.token_urlsafe(PASSWORD_BYTES))
    return path.read_text("utf-8")


if __name__ == "__main__":
    main()
