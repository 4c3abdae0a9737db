"""What can go wrong for the agent as a whole."""

import errno
from typing import Self

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
# A person has to change something.
_SET_WRONG = frozenset({errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP})


class AgentError(Exception):
    """The agent can't do this with its current settings; the message says what to change.

    exit_code  of the command; the service's unit starts an agent again after all but this one
    """

    exit_code = 2


class Failed(AgentError):
    """It did not work, or something is wrong: it may work next time."""

    exit_code = 1


class Taken(AgentError):
    """Another agent is using what this one needs for itself."""

    exit_code = 3


class ServerAway(AgentError):
    """No backend could be reached within the time allowed."""

    exit_code = 75

    @classmethod
    def of(cls, why: object, *, after_s: float | None = None) -> Self:
        """What people read, with what to look at; `after_s` seconds of trying."""
        tried = "" if after_s is None else f" for {after_s:g} seconds"
        return cls(f"no backend could be reached{tried}: {why}; is it running, and is this its address?")


class Stuck(Failed):
    """The backend answers, but the request did not succeed within the time allowed."""


class DiskFull(Failed):
    """The disk has no room for what the agent must keep: it can continue once there is some."""


class LeftChanged(Exception):
    """Files changed between listing and reading them: the next look decides."""


def not_written(what: str, error: OSError) -> AgentError:
    """The error to raise when `what` can't be written."""
    return _kind(error)(f"{what} can't be written: {error.strerror}")


def not_read(what: str, error: OSError) -> AgentError:
    """The error to raise when `what` can't be read."""
    return _kind(error)(f"{what} can't be read: {error.strerror}")


def _kind(error: OSError) -> type[AgentError]:
    if error.errno in _NO_ROOM:
        return DiskFull
    return AgentError if error.errno in _SET_WRONG else Failed


def explain(error: Exception) -> str:
    """The error's text; for an error of the operating system, its text and the file, without the number."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def first_of(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first of several errors: one is enough to act on."""
    error = errors.exceptions[0]
    return first_of(error) if isinstance(error, BaseExceptionGroup) else error
