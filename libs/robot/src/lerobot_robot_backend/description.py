"""What a session is described with."""

import os
import platform
import socket
from typing import Any

import msgspec
from teleop_schema.session import SessionDescription


def describe(**fields: Any) -> SessionDescription:
    """A valid description; raises ValueError naming the field."""
    try:
        return msgspec.convert(msgspec.to_builtins(fields), SessionDescription)
    except (msgspec.ValidationError, TypeError) as error:
        raise ValueError(f"session description: {error}") from error


def describe_host() -> dict[str, Any]:
    """Where it is recorded."""
    return {
        "hostname": socket.gethostname(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "pid": os.getpid(),
    }
