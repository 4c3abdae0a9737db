"""The account of PostgreSQL if root starts it, because PostgreSQL refuses to run as root.

It gets its own account and no capability. So it can't enter folders that only root may enter, such as root's
home. It still reaches its cluster, wherever that is, because it is started inside of it and knows it as
`/proc/self/cwd`. Its programs are copied to a place where it can run them.
"""

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from teleop_backend.postgres.programs import PostgresFailed, Programs

NAME = "lerobot-backend"
COPIES = Path("/var/cache/lerobot-backend")
ADVICE = "PostgreSQL does not run as root, and {reason}; run this as an ordinary user"


@dataclass(frozen=True)
class SystemAccount:
    """An account other than root's."""

    uid: int
    gid: int

    def run(self, command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
        """Run `command` as this account in `folder`; raises PostgresFailed if root may not do that here."""
        try:
            return subprocess.run(command, capture_output=True, text=True, **self.popen_options(folder))
        except OSError as error:
            raise _not_here(f"root can't become another user here ({error.strerror})") from error

    def popen_options(self, folder: Path) -> dict[str, Any]:
        """A function for a child process that switches to this account, in `folder` even
        if the account can't enter it."""
        return {"user": self.uid, "group": self.gid, "extra_groups": [], "cwd": folder}

    def own(self, folder: Path) -> None:
        """Give `folder` and everything in it to this account, unless it owns it already."""
        about = folder.stat()
        if about.st_uid == self.uid:
            return
        try:
            for parent, _, names in os.walk(folder):
                for path in (parent, *(os.path.join(parent, name) for name in names)):
                    os.chown(path, self.uid, self.gid, follow_symlinks=False)
        except OSError as error:
            raise _not_here(f"root can't give it {folder} here ({error.strerror})") from error

    def reaches(self, program: Path) -> bool:
        """Whether this account can run `program`."""
        return self.run(["test", "-x", str(program)], Path("/")).returncode == 0


def server_account(cluster: Path) -> SystemAccount | None:
    """The account of PostgreSQL: this user (None); for root, the owner of `cluster`, or its own account.

    A cluster of `nobody` is not left to it, because every other process of nobody could read its files.
    Raises PostgresFailed if root can't have such an account, or if a user without a name starts it the first
    time.
    """
    if (uid := os.geteuid()) != 0:
        if not cluster.exists() and not _has_name(uid):
            raise PostgresFailed(
                f"PostgreSQL can't create a database for user {uid}, which has no name; add it "
                f"to /etc/passwd, or run this as a named user"
            )
        return None
    if cluster.exists():
        owner = cluster.stat()
        if owner.st_uid not in (0, pwd.getpwnam("nobody").pw_uid):
            return SystemAccount(owner.st_uid, owner.st_gid)
    found = _look_up() or _make()
    return SystemAccount(found.pw_uid, found.pw_gid)


def programs_for(account: SystemAccount | None, programs: Programs) -> Programs:
    """PostgreSQL's programs where `account` can run them: as they are, or else a copy.

    raises  PostgresFailed if it can run neither
    """
    if account is None or account.reaches(programs.folder / "postgres"):
        return programs
    if programs.release is None:
        raise PostgresFailed(
            f"root's PostgreSQL runs as the account {NAME}, which can't run {programs.folder / 'postgres'}; "
            f"let every user read that folder, or run this as an ordinary user"
        )
    try:
        return programs.copied(COPIES)
    except OSError as error:
        reason = f"its account {NAME} can neither run {programs.folder / 'postgres'} nor a copy in {COPIES}"
        raise _not_here(f"{reason} ({error.strerror})") from error


def _has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _look_up() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(NAME)
    except KeyError:
        return None


def _make() -> pwd.struct_passwd:
    useradd = shutil.which("useradd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    told = "there is no useradd"
    if useradd is not None:
        options = ["--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
        command = [useradd, *options, "--shell", "/usr/sbin/nologin", NAME]
        told = subprocess.run(command, capture_output=True, text=True, cwd="/").stderr.strip()
    # Looked up in any case, because another backend may have created it at the same moment.
    if (made := _look_up()) is None:
        raise _not_here(
            f"its account {NAME} can't be created ({told.splitlines()[-1] if told else 'no reason'})"
        )
    return made


def _not_here(reason: str) -> PostgresFailed:
    return PostgresFailed(ADVICE.format(reason=reason))
