"""What can go wrong for the agent as a whole."""

import errno

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


class AgentError(Exception):
    """The agent can't do what was asked of it; the message says what to do about it."""


class ServerAway(AgentError):
    """No backend could be reached for as long as one was willing to wait."""


class Stuck(AgentError):
    """The backend is there, but what it was asked has to be tried again for longer than one would wait."""


class DiskFull(AgentError):
    """What the agent has to keep finds no room: it can go on once there is some."""


class LeftChanged(Exception):
    """Files changed between the look at a dataset and their reading: the next look decides."""


def not_written(what: str, error: OSError) -> AgentError:
    """What to raise when `what` can't be written."""
    failure = DiskFull if error.errno in _NO_ROOM else AgentError
    return failure(f"{what} can't be written: {error.strerror}")


def explain(error: Exception) -> str:
    """The error's text; of one of the operating system, its words and the file, without its number."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)
