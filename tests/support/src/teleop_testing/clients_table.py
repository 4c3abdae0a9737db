"""The table of clients that were tried, docs/clients.md: its rows are what tests have found.

A test calls `tried` (a fixture) with what a client sent and what was stored. The row must be in the table;
with TELEOP_WRITE_CLIENTS=1 in the environment, the test puts it there.
"""

import fcntl
import os
from pathlib import Path

TABLE = Path(__file__).parents[4] / "docs/clients.md"
WRITE = "TELEOP_WRITE_CLIENTS"
HEAD = ("| interface | client | sent | stored |", "|---|---|---|---|")


def note(client: str, interface: str, sent: str, stored: str) -> None:
    """Hold the table to what was found; or write it, if the environment says so."""
    row = f"| {interface} | {client} | {sent} | {stored} |"
    if os.environ.get(WRITE) == "1":
        _write(row)
        return
    assert row in TABLE.read_text().splitlines(), (
        f"{TABLE.name} does not have this row; run the test with {WRITE}=1, which writes it: {row}"
    )


def _write(row: str) -> None:
    """Put a row in, in place of an older one of the same interface and client."""
    with TABLE.open("r+") as table:
        # Several processes run tests.
        fcntl.flock(table, fcntl.LOCK_EX)
        before, _, after = table.read().partition("\n".join(HEAD) + "\n")
        lines = after.splitlines()
        rows = [line for line in lines if line.startswith("|") and _key(line) != _key(row)]
        rest = [line for line in lines if not line.startswith("|")]
        table.seek(0)
        table.truncate()
        table.write(before + "\n".join([*HEAD, *sorted([*rows, row], key=str.casefold), *rest]) + "\n")


def _key(row: str) -> list[str]:
    return row.split("|")[1:3]
