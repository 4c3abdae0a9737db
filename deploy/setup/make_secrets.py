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

FOLDER = Path("/secrets")
SUPERUSER = "postgres"
MIGRATION = "migration"
SERVICES = ("telemetry", "ingest", "export")
# That of people and their tools.
READER = "reader"
PASSWORD_BYTES = 32
OWNER_READS = 0o600
# The database's own user, which is another one, reads by its group.
GROUP_READS = 0o640


def main() -> None:
    if address := os.environ["DATABASE_ADDRESS"]:
        _make_passwords(address)
    authority = Authority.kept_in(FOLDER / "proxy").signed.certificate
    _write(FOLDER / "telemetry" / "LEROBOT_BACKEND_AUTHORITY", authority, OWNER_READS)


def _make_passwords(address: str) -> None:
    passwords = {role: _password(role) for role in (SUPERUSER, MIGRATION, *SERVICES, READER)}
    _write(FOLDER / "postgres" / "password", passwords[SUPERUSER], GROUP_READS)
    for service in SERVICES:
        url = f"postgresql://{service}:{passwords[service]}@{address}"
        _write(FOLDER / service / "DATABASE_URL", url, OWNER_READS)


def _password(role: str) -> str:
    """The role's password, made if there is none yet."""
    path = FOLDER / "setup" / role
    if not path.exists():
        _write(path, secrets.token_urlsafe(PASSWORD_BYTES), OWNER_READS)
    return path.read_text("utf-8")


def _write(path: Path, text: str, mode: int) -> None:
    """Write a file that is there whole or not at all."""
    unfinished = path.with_name(f".{path.name}")
    unfinished.unlink(missing_ok=True)
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


if __name__ == "__main__":
    main()
