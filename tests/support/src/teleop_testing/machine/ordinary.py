"""`python -m teleop_testing.machine.ordinary COMMAND…`: run a command as an ordinary user, whoever starts it.

An ordinary user's command is simply run. Root's is run as `nobody`, with a home of its own that is removed
afterwards: almost nobody runs a backend as root, and root is refused nothing, which hides faults. What the
command needs of folders that only root may enter, such as a Python or a checkout in root's home, is shown in
its place for this command alone, by mounts that no other process sees.
"""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

ACCOUNT = "nobody"
ENTER = 0o001


def main(command: list[str]) -> int:
    """Exit status of the command."""
    if os.geteuid() != 0:
        os.execvp(command[0], command)
    account = pwd.getpwnam(ACCOUNT)
    here = Path.cwd()
    show([here, Path(sys.prefix), Path(sys.base_prefix)])
    os.chdir(here)
    home = Path(tempfile.mkdtemp(prefix="ordinary-home-"))
    try:
        os.chown(home, account.pw_uid, account.pw_gid)
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment(home)},
            user=account.pw_uid,
            group=account.pw_gid,
            extra_groups=[],
            umask=0o022,
        )
        # Ctrl-C reaches the command by itself.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number))
        return process.wait()
    finally:
        shutil.rmtree(home, ignore_errors=True)


def environment(home: Path) -> dict[str, str]:
    """Variables that tell a user who may write nothing else where to write."""
    return {
        "HOME": str(home),
        "USER": ACCOUNT,
        "LOGNAME": ACCOUNT,
        "HYPOTHESIS_STORAGE_DIRECTORY": str(home / "hypothesis"),
        "PYTEST_ADDOPTS": f"{os.environ.get('PYTEST_ADDOPTS', '')} -o cache_dir={home / 'pytest'}",
        # Compiling what LeRobot imports takes twice as long as importing it: once for all processes.
        "PYTHONPYCACHEPREFIX": str(home / "compiled"),
        "PYTHONDONTWRITEBYTECODE": "",
    }


def show(needed: Iterable[Path]) -> None:
    """Let every user reach `needed`, in this process and its children only."""
    hidden = {path: barrier for path in needed if (barrier := first_barrier(path)) is not None}
    if not hidden:
        return
    try:
        os.unshare(os.CLONE_NEWNS)
    except OSError as error:
        sys.exit(
            f"tests run as an ordinary user, who can't reach {next(iter(hidden))}, and root may not "
            f"change that here ({error.strerror}): put Python and the checkout where every user may read, or "
            "run them as an ordinary user"
        )
    _mount("--make-rprivate", "/")
    with tempfile.TemporaryDirectory(prefix="shown-") as folder:
        kept = {path: Path(folder, str(number)) for number, path in enumerate(hidden)}
        for path, place in kept.items():
            place.mkdir()
            _mount("--rbind", path, place)
        for barrier in set(hidden.values()):
            _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", barrier)
        # What lies in another of them is there with that.
        for path, place in sorted(kept.items()):
            if not path.exists():
                path.mkdir(parents=True)
                _mount("--rbind", place, path)
            subprocess.run(["umount", "--lazy", place], check=True)


def _mount(*words: str | Path) -> None:
    subprocess.run(["mount", *words], check=True)


def first_barrier(path: Path) -> Path | None:
    """The outermost folder on the way to `path` that not everyone may enter."""
    way = [*reversed(path.parents), path]
    return next((folder for folder in way if not folder.stat().st_mode & ENTER), None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
