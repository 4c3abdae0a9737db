"""What errors say of the database."""

import errno

import asyncpg
import pytest
from teleop_runtime.trouble import SILENT, DatabaseSilent, trouble_of
from teleop_schema.errors import StorageUnavailable


def test_a_driver_that_lost_its_connection_says_so_in_its_own_way():
    """The next thing asked of a connection that broke is a transition that asyncpg does not know."""
    told = asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress")
    assert isinstance(trouble_of(told), StorageUnavailable)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (TimeoutError(), SILENT),
        (DatabaseSilent("the database has said nothing for 4 s"), SILENT),
        (TimeoutError(errno.ETIMEDOUT, "Connection timed out"), StorageUnavailable().detail),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), StorageUnavailable().detail),
    ],
)
def test_one_that_does_not_answer_is_told_from_one_that_is_not_there(error, told):
    """Whichever patience ended first: that of the statement, of the connection, or of whoever listens."""
    found = trouble_of(error)
    assert found is not None
    assert found.detail == told
