"""A real PostgreSQL: its own cluster in one folder, reached over a private socket."""

import asyncio
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from teleop_runtime.confined.environment import minimal_environment
from teleop_schema.migrations.reader import READER

from teleop_backend.postgres.account import SystemAccount, programs_for, server_account
from teleop_backend.postgres.process import (
    DATABASE,
    DEFAULT_PORT,
    RunningServer,
    exists,
    identity_of,
    wait_gone,
)
from teleop_backend.postgres.programs import (
    VARIABLE,
    PostgresFailed,
    Programs,
    bundled_programs,
    find_programs,
)

SUPERUSER = "teleop"
# It may have to recover from its log first; if it ends, that is reported at once.
START_TIMEOUT_S = 300.0
# How soon a start that is not wanted any more is noticed.
POLL_S = 0.02
# The socket is private to its owner. From the network, only who reads may come in.
WHO_COMES_IN = f"""\
local all all trust
host {DATABASE} {READER} all scram-sha-256
"""
# Of postmaster.pid, counted from 0.
PORT_LINE, ADDRESS_LINE = 3, 5


class EmbeddedPostgres:
    """One PostgreSQL cluster in `folder`, created at the first start.

    A server that an earlier, killed backend left running is taken over as it is. Only one backend at a
    time holds a folder. If root runs it, PostgreSQL itself runs as another account: see `account`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        programs: Path | None = None,
        listen: tuple[str, int] | None = None,
        settings: dict[str, str] | None = None,
    ) -> None:
        """Nothing is started yet.

        programs  folder of the PostgreSQL to run, as `find_programs` takes it
        listen    address and port at which the role `reader` may come in, with its password; None: only the
                  socket is there
        settings  of the server, besides its own
        """
        self.folder = folder.absolute()
        self.cluster = self.folder / "postgres"
        self.log = self.folder / "postgres.log"
        # The server's process, for users who may not see its working directory.
        self.identity = self.folder / "postgres.process"
        # In /tmp, because a socket's path can't be longer than 107 bytes.
        name = hashlib.sha256(str(self.folder).encode()).hexdigest()[:16]
        self.sockets = Path(f"/tmp/lerobot-backend-{os.geteuid()}-{name}")  # noqa: S108
        address, self.port = listen or ("", DEFAULT_PORT)
        self.settings = {"listen_addresses": address, "port": str(self.port), **(settings or {})}
        self._named = programs
        self._lock: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        # The server that was last found, started here or not.
        self._seen: int | None = None
        # Starting and stopping happen in threads: one after the other.
        self._turn = threading.RLock()
        self._unwanted = threading.Event()

    def start(self, unwanted: threading.Event | None = None) -> None:
        """Return once the server takes connections; raises PostgresFailed, and then no server runs.

        unwanted  set by whoever does not want the server any more: it is not started then, nor started again
        """
        with self._turn:
            self._unwanted = unwanted or threading.Event()
            self._start()

    def _start(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._take_lock()
        except OSError as error:
            raise PostgresFailed(
                f"cannot keep data in {self.folder}: {error.strerror}; choose another folder with "
                "LEROBOT_BACKEND_DATA_DIR"
            ) from error
        try:
            if not (self.cluster / "PG_VERSION").exists():
                self._make_cluster()
            self._check_version()
            self._end_what_listens_elsewhere()
            self.ensure_running()
        except BaseException as error:
            with suppress(OSError, PostgresFailed):
                self.stop()
            self._drop_lock()
            if isinstance(error, OSError):
                raise PostgresFailed(f"PostgreSQL can't be started in {self.folder}: {error}") from error
            raise

    def ensure_running(self) -> None:
        """Start the server again if it has died; raises PostgresFailed, OSError if that can't be determined
        now."""
        with self._turn:
            self._insist_on_being_wanted()
            if self.pid is None:
                self._launch()
            self._wait_until_ready()

    def stop(self, signal_number: int = signal.SIGINT) -> None:
        """Shut down; SIGINT ends sessions in order, SIGQUIT stops at once without a checkpoint.

        A folder that is not held has a server of another backend, if any: that one stays.
        """
        with self._turn:
            if self._lock is not None and (pid := self.pid) is not None:
                self._end(pid, signal_number)
            self._drop_lock()

    def _end(self, pid: int, signal_number: int = signal.SIGINT) -> None:
        os.kill(pid, signal_number)
        wait_gone(pid)
        shutil.rmtree(self.sockets, ignore_errors=True)

    def _end_what_listens_elsewhere(self) -> None:
        """Stop a server that an earlier backend left running with another address or port."""
        pid, running = self.pid, self.found()
        if pid is not None and running is not None:
            wanted = (str(self.sockets), self.settings["listen_addresses"], self.port)
            if (running.sockets, running.address, running.port) != wanted:
                self._end(pid)

    @property
    def pid(self) -> int | None:
        """Process id of the running server, None if there is none; OSError if that can't be determined now.

        A server does not count as dead because nobody can look: without a free file descriptor, or without
        its pid file, which may be torn, or removed by somebody.
        """
        child = self._process
        own = child is not None and child.returncode is None
        pid = child.pid if child is not None and own else self._written_pid() or self._seen
        if pid is None or not exists(pid) or not (own or self._is_server(pid)):
            return None
        self._seen = pid
        return pid

    @property
    def free_bytes(self) -> int:
        """Room on its disk."""
        return shutil.disk_usage(self.folder).free

    @property
    def programs(self) -> Programs:
        """What it runs; raises PostgresFailed if there is nothing that can be run."""
        return find_programs(self._named)

    def url(self, database: str = DATABASE) -> str:
        """The `postgresql://` address of the server, for asyncpg, psycopg and libpq."""
        return RunningServer(str(self.sockets), "", self.port).socket_url(SUPERUSER, database)

    def found(self) -> RunningServer | None:
        """How to reach the server that runs, whoever started it; None if none does, or it has just begun."""
        try:
            lines = self._pidfile()
        except FileNotFoundError:
            return None
        # As PostgreSQL's own pg_ctl reads it: pid, data directory, start, port, socket's folder, address.
        if self.pid is None or len(lines) <= ADDRESS_LINE:
            return None
        port, sockets, address = lines[PORT_LINE], lines[PORT_LINE + 1], lines[ADDRESS_LINE]
        return RunningServer(sockets.strip(), address.strip(), int(port))

    def _is_server(self, pid: int) -> bool:
        """Whether a process is the server of this cluster; after a reboot, any process may have its
        number."""
        process = Path(f"/proc/{pid}")
        if sys.platform != "linux":
            return True
        try:
            # PostgreSQL stays in its cluster's folder.
            return (process / "cwd").samefile(self.cluster)
        except FileNotFoundError:
            return False
        except PermissionError:
            # Root without the capability to see another account's processes, as in a container, where another
            # cluster's server may soon get the same number.
            return self.identity.exists() and self.identity.read_text() == identity_of(pid)

    def _make_cluster(self) -> None:
        # Without PG_VERSION it is what an initdb left that was killed.
        shutil.rmtree(self.cluster, ignore_errors=True)
        unfinished = self.folder / "postgres.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        account = server_account(self.cluster)
        command = [
            *(self._program("initdb", account), "--pgdata", _name_of(unfinished, account)),
            *("--username", SUPERUSER, "--auth", "trust", "--encoding", "UTF8", "--no-locale"),
            # Later versions do so by themselves.
            "--data-checksums",
        ]
        who: dict[str, Any] = {"cwd": "/"}
        if account is not None:
            account.own(unfinished)
            who = account.popen_options(unfinished)
        done = self._run(command, **who)
        if done.returncode != 0:
            raise PostgresFailed(f"initdb failed: {done.stderr.strip()}")
        # In one step: a cluster is there as a whole, or not.
        unfinished.rename(self.cluster)

    def _check_version(self) -> None:
        """Raise PostgresFailed if the programs are not of the major version that made the cluster."""
        made_by, major = (self.cluster / "PG_VERSION").read_text().strip(), self.programs.major
        if made_by == str(major):
            return
        if made_by == str(bundled_programs().major):
            help_ = f"unset {VARIABLE}"
        else:
            help_ = f"set {VARIABLE} to the folder of PostgreSQL {made_by}'s programs"
        raise PostgresFailed(
            f"{self.cluster} was made by PostgreSQL {made_by}, and PostgreSQL {major} can't read it; "
            f"{help_}, choose another folder with LEROBOT_BACKEND_DATA_DIR, or move the data as described in "
            f"docs/upgrading.md"
        )

    def _program(self, name: str, account: SystemAccount | None = None) -> str:
        return str(programs_for(account, self.programs).folder / name)

    def _launch(self) -> None:
        account = server_account(self.cluster)
        self._make_socket_folder(account)
        settings = {"unix_socket_directories": str(self.sockets), **self.settings}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        who: dict[str, Any] = {"cwd": "/"}
        if account is not None:
            account.own(self.cluster)
            who = account.popen_options(self.cluster)
        # No server runs; one that was killed leaves a file that may name another process by now, and
        # PostgreSQL would not start.
        (self.cluster / "postmaster.pid").unlink(missing_ok=True)
        (self.cluster / "pg_hba.conf").write_text(WHO_COMES_IN)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._program("postgres", account), "-D", _name_of(self.cluster, account), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                # A variable of the person's own (PGDATA, PGPORT) must not lead it elsewhere.
                env=minimal_environment(),
                **who,
            )
        if sys.platform == "linux":
            self.identity.write_text(identity_of(self._process.pid))
        # A child that has ended but was not waited for would look alive.
        threading.Thread(target=self._process.wait, name="postgres-reaper", daemon=True).start()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            self._insist_on_being_wanted()
            if time.monotonic() > deadline or (self._process and self._process.returncode is not None):
                raise PostgresFailed(f"PostgreSQL did not start; the end of {self.log}:\n{self._log_end()}")
            time.sleep(POLL_S)
        # Status 1: it exists already.
        if self._create_database().returncode not in (0, 1):
            raise PostgresFailed(f"cannot create the database; the end of {self.log}:\n{self._log_end()}")

    def _make_socket_folder(self, account: SystemAccount | None) -> None:
        """A folder that is private to its owner, because the socket asks for no password."""
        shutil.rmtree(self.sockets, ignore_errors=True)
        try:
            self.sockets.mkdir(mode=0o700)
        except FileExistsError:
            raise PostgresFailed(f"{self.sockets} belongs to somebody else; remove it") from None
        if account is not None:
            account.own(self.sockets)

    def _answers(self) -> bool:
        command = [self._program("pg_isready"), "-q", *self._where()]
        return self._run(command).returncode == 0

    def _create_database(self) -> subprocess.CompletedProcess[str]:
        command = [self._program("createdb"), *self._where(), DATABASE]
        return self._run(command)

    def _where(self) -> list[str]:
        return ["-h", str(self.sockets), "-p", str(self.port), "-U", SUPERUSER]

    def _run(self, command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a program to its end; raises PostgresFailed, and ends it, once the server is not wanted.

        It has a session of its own: Ctrl-C is for this process, which ends its children in order.
        """
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=minimal_environment(),
            **options,
        )
        with child:
            while True:
                with suppress(subprocess.TimeoutExpired):
                    told = child.communicate(timeout=POLL_S)
                    break
                if self._unwanted.is_set():
                    child.terminate()
        self._insist_on_being_wanted()
        return subprocess.CompletedProcess(command, child.returncode, *told)

    def _insist_on_being_wanted(self) -> None:
        if self._unwanted.is_set():
            raise PostgresFailed("PostgreSQL was asked to stop before it had started")

    def _log_end(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-10:])

    def _written_pid(self) -> int | None:
        try:
            return int(self._pidfile()[0])
        except (FileNotFoundError, ValueError, IndexError):
            return None

    def _pidfile(self) -> list[str]:
        return (self.cluster / "postmaster.pid").read_text().splitlines()

    def _take_lock(self) -> None:
        descriptor = os.open(self.folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise PostgresFailed(
                f"another backend is running on {self.folder}; stop it, or choose another folder with "
                "LEROBOT_BACKEND_DATA_DIR"
            ) from None
        self._lock = descriptor

    def _drop_lock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


@asynccontextmanager
async def running(postgres: EmbeddedPostgres) -> AsyncIterator[None]:
    """The server, while the block runs; cancelled at whatever moment of its start, it stops as well.

    raises  PostgresFailed
    """
    unwanted = threading.Event()
    try:
        # A thread goes on when what waits for it is cancelled.
        await asyncio.to_thread(postgres.start, unwanted)
        yield
    finally:
        unwanted.set()
        await asyncio.to_thread(postgres.stop)


def _name_of(folder: Path, account: SystemAccount | None) -> str:
    """The cluster's folder as PostgreSQL gets it; for another account, the folder in which it is started."""
    return str(folder) if account is None or sys.platform != "linux" else "/proc/self/cwd"
