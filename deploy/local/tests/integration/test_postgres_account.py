"""PostgreSQL where root starts it, which it does not run for itself."""

import dataclasses
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from teleop_backend.postgres import EmbeddedPostgres
from teleop_backend.postgres import account as postgres_account
from teleop_backend.postgres.account import NAME
from teleop_backend.postgres.programs import PostgresFailed, Programs, bundled_programs
from teleop_testing.waiting import PATIENCE_S

pytestmark = pytest.mark.root("PostgreSQL is started by root")

# What Docker leaves to root in a container.
OF_A_CONTAINER = [
    *("chown", "dac_override", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap", "net_bind_service"),
    *("net_raw", "sys_chroot", "mknod", "audit_write", "setfcap"),
]
START = """
import sys
from pathlib import Path
from teleop_backend.postgres import EmbeddedPostgres
from teleop_backend.postgres.programs import PostgresFailed
server = EmbeddedPostgres(Path(sys.argv[1]))
try:
    server.start()
except PostgresFailed as error:
    sys.exit(str(error))
server.ensure_running()
print(server.pid)
server.stop()
"""


@pytest.fixture
def folder():
    """A folder that only root may enter."""
    with tempfile.TemporaryDirectory(prefix="postgres-test-") as path:
        yield Path(path) / "data"


@pytest.fixture
def cluster(folder):
    """A cluster, not running."""
    server = EmbeddedPostgres(folder)
    server.start()
    server.stop()
    return server.cluster


def start(folder: Path, *capabilities: str) -> subprocess.CompletedProcess[str]:
    """What comes of a start and a stop by a root that has no other capabilities."""
    kept = ",".join(["-all", *(f"+{name}" for name in capabilities)])
    command = ["setpriv", f"--bounding-set={kept}", sys.executable, "-c", START, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)


def test_it_has_an_account_of_its_own_and_no_capability(folder):
    """Where nobody but root may go, it runs without root's rights, and not as what others run as."""
    server = EmbeddedPostgres(folder)
    server.start()
    status = Path(f"/proc/{server.pid}/status").read_text()
    server.stop()
    told = dict(line.split(":\t", 1) for line in status.splitlines())
    uids = {pwd.getpwuid(int(uid)).pw_name for uid in told["Uid"].split()}
    assert uids == {NAME}
    for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(told[kind], 16) == 0, kind
    assert told["Groups"].strip() == ""


def test_it_starts_with_what_a_container_leaves_to_root(folder):
    """As root in an ordinary container."""
    done = start(folder, *OF_A_CONTAINER)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        (["setuid", "setgid"], "root can't become another user here (Operation not permitted)"),
        (["chown"], "root can't give it"),
    ],
)
def test_a_root_with_fewer_rights_is_told_what_to_do(folder, missing, reason):
    """Where it can't start, one line says why, and what helps."""
    done = start(folder, *(name for name in OF_A_CONTAINER if name not in missing))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"PostgreSQL does not run as root, and {reason}")
    assert line.endswith("; run this as an ordinary user")


def test_no_account_can_be_made(folder, monkeypatch):
    """As where /etc is read-only: said in a line."""
    monkeypatch.setattr(postgres_account, "NAME", "Not A Name")
    with pytest.raises(
        PostgresFailed, match=r"its account Not A Name can't be created \(.*invalid user name"
    ):
        EmbeddedPostgres(folder).start()


@pytest.mark.parametrize("owner", ["nobody", 12345])
def test_a_cluster_of_another_account_goes_on(folder, cluster, owner):
    """One made as `nobody` is given to its own account; one made by an ordinary user stays that user's."""
    for path in (cluster, *cluster.rglob("*")):
        shutil.chown(path, owner)
    server = EmbeddedPostgres(folder)
    server.start()
    running = os.stat(f"/proc/{server.pid}").st_uid
    server.stop()
    assert running == cluster.stat().st_uid == (12345 if owner == 12345 else pwd.getpwnam(NAME).pw_uid)


def test_programs_that_only_root_can_reach_are_copied(folder, monkeypatch):
    """As where all was installed in root's home; the copy is made once."""
    with tempfile.TemporaryDirectory() as hidden, tempfile.TemporaryDirectory() as copies:
        os.chmod(copies, 0o755)
        bundled = bundled_programs()
        for name in bundled.parts:
            shutil.copytree(bundled.root / name, Path(hidden, name), symlinks=True)
        where = Path(hidden, bundled.folder.relative_to(bundled.root))
        unreachable = dataclasses.replace(bundled, folder=where, root=Path(hidden))
        monkeypatch.setattr(postgres_account, "COPIES", Path(copies))
        account = postgres_account.server_account(folder / "postgres")
        programs = postgres_account.programs_for(account, unreachable)
        made = programs.folder.stat().st_ino
        done = account.run([str(programs.folder / "postgres"), "--version"], Path("/"))
        assert done.stdout.startswith(f"postgres (PostgreSQL) {bundled.major}")
        assert postgres_account.programs_for(account, unreachable).folder.stat().st_ino == made
        assert len(os.listdir(copies)) == 1


def test_installed_programs_that_only_root_can_reach_are_named(folder):
    """Nobody knows what else they need, so they are not copied."""
    with tempfile.TemporaryDirectory() as hidden:
        account = postgres_account.server_account(folder / "postgres")
        with pytest.raises(PostgresFailed, match=f"account {NAME}, which can't run {hidden}/postgres; let"):
            postgres_account.programs_for(account, Programs(Path(hidden), 15))
