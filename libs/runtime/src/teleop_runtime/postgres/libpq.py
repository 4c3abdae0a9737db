"""What libpq, which is under psycopg and ADBC, has to know of a database beside its address.

asyncpg is not libpq; `teleop_runtime.postgres.pool` bounds what it waits for.
"""

from urllib.parse import parse_qsl, urlencode, urlsplit

# A host that vanishes without a word would otherwise be waited for until TCP gives up, a quarter of an hour.
# One that was idle is asked after 10 s whether it is there, and no answer within 25 s, to this or to anything
# else, ends the connection: as long as the server waits for its clients.
# https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
BOUNDS = {
    "connect_timeout": "5",
    "keepalives": "1",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "25000",
}


def bounded(database_url: str) -> str:
    """The address with BOUNDS on how long its host is waited for; what it says of them itself stays."""
    told = dict(parse_qsl(urlsplit(database_url).query, keep_blank_values=True))
    bounds = urlencode({name: value for name, value in BOUNDS.items() if name not in told})
    return f"{database_url}{'&' if told else '?'}{bounds}" if bounds else database_url
