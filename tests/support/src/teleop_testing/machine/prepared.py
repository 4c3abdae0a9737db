"""Python that has imported what LeRobot needs, once: each program started with it is a fork of that process.

Importing takes longer than most programs of tests take. LeRobot itself and its plugins are imported by each
program anew: they read the environment when they are. For Linux.
"""

import gc
import json
import os
import runpy
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import IO, Any, NoReturn

from teleop_testing.waiting import PATIENCE_S

# What LeRobot's commands spend their start with. Nothing here may begin to compute: a fork has none of the
# threads that it would begin.
IMPORTED = ("accelerate", "av", "cv2", "datasets", "deepdiff", "draccus", "pydantic", "torchvision")
# A program, its arguments and the environment, as they are sent.
REQUEST_BYTES = 1 << 17


class Forked:
    """A program that runs, with what `subprocess.Popen` has for it.

    pid  its own until its end has been seen, as with Popen
    """

    def __init__(self, pid: int, told: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._told = told

    def poll(self) -> int | None:
        """Its exit status, or minus the signal that killed it; None while it runs."""
        return self._look(0)

    def wait(self, timeout: float) -> int:
        """The same at its end, within `timeout` seconds. Raises subprocess.TimeoutExpired."""
        status = self._look(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
        return status

    def send_signal(self, number: int) -> None:
        """As `kill` of the shell, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, unless it has ended."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM, unless it has ended."""
        self.send_signal(signal.SIGTERM)

    def _look(self, timeout_s: float) -> int | None:
        if self.returncode is None and select.select([self._told], [], [], timeout_s)[0]:
            status = self._told.recv(REQUEST_BYTES)
            assert status, "the prepared Python has ended"
            self.returncode = int(status)
            # Only now the number may go to another process.
            self._told.close()
        return self.returncode


class PreparedPython:
    """The process that has imported them.

    environment  what every program has of it
    """

    def __init__(self, requests: socket.socket, environment: Mapping[str, str]) -> None:
        self._requests = requests
        self.environment = environment

    def start(
        self,
        command: Sequence[str | Path],
        *,
        output: IO[bytes],
        environment: Mapping[str, str] | None = None,
    ) -> Forked:
        """A running command of Python: `python -c …`, `python -m …`, `python script …`, or a script alone.

        output       where it prints, errors too
        environment  else that of this process; what Hugging Face's libraries have read already is not of it
        """
        words = [str(word) for word in command]
        request = {
            "command": words[1:] if words[0] == sys.executable else words,
            "environment": {**(os.environ if environment is None else environment), **self.environment},
            "folder": os.getcwd(),
        }
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            handed = [theirs.fileno(), output.fileno()]
            socket.send_fds(self._requests, [json.dumps(request).encode()], handed)
        # It answers as soon as it has imported everything.
        ours.settimeout(PATIENCE_S)
        return Forked(int(ours.recv(REQUEST_BYTES)), ours)

    def run(
        self, command: Sequence[str | Path], environment: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """The command at its end, with all that it has printed as `stdout`."""
        with tempfile.TemporaryFile() as output:
            status = self.start(command, output=output, environment=environment).wait(PATIENCE_S)
            output.seek(0)
            return subprocess.CompletedProcess(command, status, output.read().decode(errors="replace"))


@contextmanager
def prepared_python(caches: Path) -> Iterator[PreparedPython]:
    """The process, until the end of the block; offline, with Hugging Face's caches in the folder `caches`."""
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(caches)}
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # -P: each program puts its own folder into the path.
    words = [sys.executable, "-P", "-c", f"from {__name__} import serve; serve()"]
    with ExitStack() as stack:
        with theirs:
            process = subprocess.Popen(
                words, env={**os.environ, **environment}, stdin=theirs.fileno(), stdout=subprocess.DEVNULL
            )
        stack.callback(process.wait, PATIENCE_S)
        # It ends as soon as nobody can ask it any more.
        stack.enter_context(ours)
        yield PreparedPython(ours, environment)


def serve() -> None:
    """Start a program for each request of the socket that is this process's input, until that is closed."""
    for name in IMPORTED:
        import_module(name)
    # Looking through all of it once more, each program would copy the memory that it shares with the others.
    gc.freeze()
    requests = socket.socket(fileno=os.dup(0))
    waiting = selectors.DefaultSelector()
    waiting.register(requests, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            if key.fileobj is requests:
                content, handed, _, _ = socket.recv_fds(requests, REQUEST_BYTES, 2, socket.MSG_CMSG_CLOEXEC)
                if not content:
                    return
                _fork(json.loads(content), socket.socket(fileno=handed[0]), handed[1], waiting)
            elif isinstance(key.fileobj, int):
                _tell(key, waiting)
            else:
                _forget(key, waiting)


def _fork(
    request: dict[str, Any], starter: socket.socket, output: int, waiting: selectors.BaseSelector
) -> None:
    child = os.fork()
    if child == 0:
        for key in waiting.get_map().values():
            _close(key.fileobj)
        waiting.close()
        starter.close()
        _run(request, output)
    os.close(output)
    starter.send(str(child).encode())
    waiting.register(os.pidfd_open(child), selectors.EVENT_READ, (child, starter))


def _tell(key: selectors.SelectorKey, waiting: selectors.BaseSelector) -> None:
    """A program has ended; its number stays its own until whoever started it knows."""
    child, starter = key.data
    waiting.unregister(key.fileobj)
    _close(key.fileobj)
    ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert ended is not None
    status = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
    # Nobody may be there any more.
    with suppress(OSError):
        starter.send(str(status).encode())
    waiting.register(starter, selectors.EVENT_READ, child)


def _forget(key: selectors.SelectorKey, waiting: selectors.BaseSelector) -> None:
    """Whoever started a program has seen its end."""
    waiting.unregister(key.fileobj)
    _close(key.fileobj)
    os.waitpid(key.data, 0)


def _close(file: Any) -> None:
    """A socket by its own means: it would close its number once more, which may be another file's by then."""
    if isinstance(file, int):
        os.close(file)
    else:
        file.close()


def _run(request: dict[str, Any], output: int) -> NoReturn:
    """What Python does with its command line."""
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    nothing = os.open(os.devnull, os.O_RDONLY)
    for opened, number in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(opened, number)
    os.close(nothing)
    os.close(output)
    kind, *words = request["command"]
    first = {"-c": "", "-m": os.getcwd()}.get(kind, os.path.dirname(kind))
    sys.path[:0] = [first, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = [kind, *words[1:]] if kind in ("-c", "-m") else [kind, *words]
    if kind == "-c":
        main = sys.modules["__main__"] = ModuleType("__main__")
        exec(compile(words[0], "<string>", "exec"), main.__dict__)
    elif kind == "-m":
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(kind, run_name="__main__")
    sys.exit()
