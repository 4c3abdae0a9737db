"""What errors say of the database."""

import asyncpg
from teleop_runtime.trouble import trouble_of
from teleop_schema.errors import StorageUnavailable


def test_a_driver_that_lost_its_connection_says_so_in_its_own_way():
    """The next thing asked of a connection that broke is a transition that asyncpg does not know."""
    told = asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress")
    assert isinstance(trouble_of(told), StorageUnavailable)
