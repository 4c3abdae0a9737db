"""The description of a session."""

import os
import platform
import socket
from typing import Any

import msgspec
from teleop_schema.decoding import explain, field_of
from teleop_schema.messages import Event
from teleop_schema.session import SessionDescription


def describe(**fields: Any) -> SessionDescription:
    """A valid description; raises ValueError naming the field."""
    try:
        return msgspec.convert(msgspec.to_builtins(fields), SessionDescription)
    except (msgspec.ValidationError, TypeError) as error:
        field = field_of(error) or "the session"
        raise ValueError(explain(error, field)) from error


def make_event(fields: dict[str, Any]) -> Event:
    """A valid event; raises ValueError naming the field."""
    try:
        return msgspec.convert(fields, Event)
    except msgspec.ValidationError as error:
        raise ValueError(explain(error, field_of(error) or "the event")) from error


def describe_host() -> dict[str, Any]:
    """The machine that records the session."""
    return {
        "hostname": socket.gethostname(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "pid": os.getpid(),
    }
