"""How a process for untrusted files is started."""

import socket
import sys

from teleop_runtime.confined.environment import minimal_environment

# One of them, so that no thread is there before the process is confined, and a worker takes one processor.
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1"}


def command_of(module: str, *arguments: str) -> tuple[str, ...]:
    """A command that runs a module of ours; without the folder in which the server happens to run."""
    return (sys.executable, "-P", "-m", module, *arguments)


def worker_environment() -> dict[str, str]:
    """What such a process may know of the server's environment."""
    return minimal_environment() | ONE_THREAD


def channel() -> tuple[socket.socket, socket.socket]:
    """The server's end and the process's end of a way to hand over files (see `handed`)."""
    return socket.socketpair()
