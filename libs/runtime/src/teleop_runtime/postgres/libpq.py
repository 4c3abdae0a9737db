"""Parameters that libpq, which psycopg and ADBC use, needs besides a database's address.

asyncpg does not use libpq; `teleop_runtime.postgres.pool` limits how long it waits.
"""

from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

# Without these, a host that vanishes silently would be waited for until TCP gives up,
# a quarter of an hour. An idle connection is probed after 10 s, and no answer within 25 s, to this
# or to anything else, ends it. The server waits as long for its clients.
# https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
BOUNDS = {
    "connect_timeout": "5",
    "keepalives": "1",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "25000",
}
# ADBC asks for all types as it connects, before anybody can lift the limits of a role or a database.
UNLIMITED = "-c statement_timeout=0 -c lock_timeout=0"


def bounded(database_url: str) -> str:
    """The address, with BOUNDS on the wait for its host; parameters that it already has stay."""
    told = dict(parse_qsl(urlsplit(database_url).query, keep_blank_values=True))
    bounds = urlencode({name: value for name, value in BOUNDS.items() if name not in told})
    return f"{database_url}{'&' if told else '?'}{bounds}" if bounds else database_url


def unlimited(database_url: str) -> str:
    """The address, with UNLIMITED beside the options that it already has. PgBouncer refuses these."""
    address = urlsplit(database_url)
    told = dict(parse_qsl(address.query, keep_blank_values=True))
    told["options"] = f"{told.get('options', '')} {UNLIMITED}".strip()
    # libpq takes a plus for a plus.
    return urlunsplit(address._replace(query=urlencode(told, quote_via=quote)))
