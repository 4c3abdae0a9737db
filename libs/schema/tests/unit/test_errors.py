"""The error tree as clients rely on it."""

import re

import pytest
from teleop_schema import errors
from teleop_schema.errors import BackendError

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BackendError)]


@pytest.mark.parametrize("kind", KINDS)
def test_error_can_be_told_over_http_and_websocket(kind):
    """Every error has a code, a status, a close code that WebSocket allows, and a sentence."""
    assert re.fullmatch(r"[a-z_]+", kind.code)
    assert 400 <= kind.status < 600
    assert kind.close_code in (1002, 1007, 1008, 1009, 1011, 1013) or 4000 <= kind.close_code < 5000
    assert kind().detail.endswith(".")


def test_codes_are_unique():
    """A code names one kind of error."""
    assert len({kind.code for kind in KINDS}) == len(KINDS)
