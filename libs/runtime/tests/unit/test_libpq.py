"""What libpq is told of a database beside its address."""

from urllib.parse import parse_qs, urlsplit

import pytest
from psycopg.conninfo import conninfo_to_dict
from teleop_runtime.postgres.libpq import BOUNDS, bounded


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://teleop:p%40ss@db:5432/teleop",
        "postgresql://teleop@/teleop?host=%2Ftmp%2Fsockets",
        "postgresql://db/teleop?sslmode=require&connect_timeout=60",
    ],
)
def test_bounds_are_added_to_what_is_told(address):
    """libpq understands it, and what the address says of itself stays."""
    told, made = conninfo_to_dict(address), conninfo_to_dict(bounded(address))
    assert {name: str(value) for name, value in made.items()} == BOUNDS | told


def test_nothing_is_told_twice():
    """An address that is bounded already stays as it is."""
    once = bounded("postgresql://db/teleop")
    assert bounded(once) == once
    assert all(len(values) == 1 for values in parse_qs(urlsplit(once).query).values())
