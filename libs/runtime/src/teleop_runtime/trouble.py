"""What an error says about the database, whichever driver raised it.

https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

import errno
import socket
import ssl

import asyncpg
from adbc_driver_manager import OperationalError
from teleop_schema.errors import BackendError, NoSpace, Overloaded, StorageUnavailable

# Errors of a database that is down, starting, stopping or unreachable. Not every OSError,
# because the file store and the process itself raise those too,
# and a wrong name sends people to the wrong place.
DATABASE_AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InterfaceError,
    # Outside of asyncpg's own tree: raised by a connection that was lost in the middle of an answer.
    asyncpg.InternalClientError,
    OperationalError,
    ConnectionError,
    TimeoutError,
    socket.gaierror,
    ssl.SSLError,
)
# The process, or the machine, can't open anything more.
USED_UP = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)

MIGRATE = "run `python -m teleop_schema.migrate` with DATABASE_URL (compose and Helm: the service `migrate`)"

TO_PRIMARY = "point DATABASE_URL to the primary, or make the database writable again"
READ_ONLY = "the database is read-only: it is a standby, or someone has made it read-only"
NOT_MIGRATED = "the database lacks tables that this release needs: it has not been migrated"
TIMED_OUT = "the database cancelled a statement that took too long"
LIFT = (
    "if its role or database has a statement_timeout, set that to 0 (ALTER ROLE … SET statement_timeout = 0)"
)
FULL = "the disk of the database is full"
ROOM = "free some space there; nothing else needs to be done"
SILENT = "the database has not answered in time"
WAKE = "it is overloaded, or it hangs: look at its processes, its memory and its disk"
FROZEN = f"{SILENT}; {WAKE}"
FILES_FROZEN = "the disk or bucket of the files does not answer; look whether it, or what leads to it, hangs"

# Codes that say more than that the database is away, with what to do about it.
_SAID: dict[str, tuple[str, str | None]] = {
    "25006": (READ_ONLY, TO_PRIMARY),
    "42P01": (NOT_MIGRATED, MIGRATE),
    "42703": (NOT_MIGRATED, MIGRATE),
    "42883": (NOT_MIGRATED, MIGRATE),
    "3F000": (NOT_MIGRATED, MIGRATE),
    "53300": (
        "the database has no connections left",
        "raise its max_connections, or the CONNECTION LIMIT of the role or of the database",
    ),
    "57014": (TIMED_OUT, LIFT),
    "55P03": (TIMED_OUT, None),
    "25P03": (TIMED_OUT, None),
    "25P04": (TIMED_OUT, None),
    "57P05": (TIMED_OUT, None),
}
_DISK_FULL = "53100"
# Connection exceptions, insufficient resources, operator intervention, system errors.
_AWAY_CLASSES = ("08", "53", "57", "58")


class DatabaseSilent(TimeoutError):
    """The server of the database accepts what it is sent, and says nothing: it is frozen, not busy."""


def trouble_of(error: BaseException) -> BackendError | None:
    """The error to report if `error` means that the database can't be used now, otherwise None.

    error  raised by asyncpg, psycopg, ADBC or the connection
    """
    code = getattr(error, "sqlstate", None)
    if code == _DISK_FULL:
        return NoSpace(FULL, hint=ROOM)
    if isinstance(code, str):
        if code in _SAID:
            detail, hint = _SAID[code]
            return StorageUnavailable(detail, hint=hint)
        return StorageUnavailable() if code.startswith(_AWAY_CLASSES) else None
    if isinstance(error, OSError) and error.errno in USED_UP:
        return Overloaded()
    # Also where it was patience that ended: of a connection that is made, or of a statement. One with a
    # number is the network's, which could not be reached.
    if isinstance(error, TimeoutError) and error.errno is None:
        return StorageUnavailable(SILENT, hint=WAKE)
    return StorageUnavailable() if isinstance(error, DATABASE_AWAY) else None
