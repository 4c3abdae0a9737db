"""A machine that has the base system, Python and make, and nothing else: a container with Docker's defaults.

`python tests/stack/bare.py`, which is `make test-bare`, runs there what people run on theirs, wholly: the two
commands, by an ordinary user and by root. The tests of the stack run the demo alone: LeRobot has 6 GB, and to
unpack, compile and import it for each of the two took a quarter of the processor time of them all.
"""

import io
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager

import docker
from base_images import ensure_base_images
from docker.models.containers import Container
from stack import REPOSITORY

IMAGE = "lerobot-backend/bare-machine"
DOCKERFILE = b"""\
FROM python:3.12-slim-bookworm
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends make >/dev/null \\
    && useradd --create-home person
"""
# One file of every package goes first: what it is made of can be installed there, and works.
OF_EVERY_PACKAGE = (
    "libs/schema/tests/integration/test_migrations.py",
    "libs/runtime/tests/integration/test_s3_store.py",
    "libs/dataset/tests/integration/test_soundness.py",
    "libs/robot/tests/integration/test_spool.py",
    "libs/virtual-robot/tests/integration/test_devices.py",
    "services/telemetry-service/tests/integration/test_numbers.py",
    "services/video-ingest-service/tests/integration/test_known.py",
    "services/export-service/tests/integration/test_rates.py",
    "services/sync-agent/tests/integration/test_datasets.py",
    "deploy/local/tests/integration/test_postgres_account.py",
)
# And of what is different where root asks for it.
OF_ROOT = (
    "tests/support/tests/test_ordinary.py",
    "libs/runtime/tests/integration/test_local_store.py",
    "libs/virtual-robot/tests/integration/test_devices.py",
)
PEOPLE = {"person": OF_EVERY_PACKAGE, "root": OF_ROOT}


class BareMachine:
    """A container, with a copy of this checkout in the home of each of PEOPLE."""

    def __init__(self, container: Container) -> None:
        self.container = container
        for person in PEOPLE:
            container.put_archive("/srv", checkout(person))
        self.run("root", "chown -R person: /srv/person", folder="/")

    def run(self, person: str, command: str, *, folder: str | None = None) -> str:
        """What the command printed in their checkout; raises AssertionError with it if that failed."""
        status, printed = self.container.exec_run(
            ["bash", "-c", f"exec 2>&1; {command}"],
            user=person,
            workdir=folder or f"/srv/{person}",
            environment={"HOME": f"/srv/{person}", "UV_CACHE_DIR": "/srv/person/.cache/uv"},
        )
        text: str = printed.decode()
        assert status == 0, f"{person}: {command}\n{text[-20000:]}"
        return text


@contextmanager
def bare_machine(engine: docker.DockerClient) -> Iterator[BareMachine]:
    """A new one, gone afterwards."""
    engine.images.build(fileobj=io.BytesIO(DOCKERFILE), tag=IMAGE, rm=True)
    container = engine.containers.run(IMAGE, ["sleep", "infinity"], detach=True, init=True)
    try:
        yield BareMachine(container)
    finally:
        container.remove(force=True, v=True)


def checkout(folder: str) -> bytes:
    """What git would give to a person who clones this checkout, in a `folder` of a tar archive."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True).stdout.decode()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in filter(None, listed.split("\0")):
            if (REPOSITORY / name).exists():
                tar.add(REPOSITORY / name, f"{folder}/{name}", filter=_of_root)
    return archive.getvalue()


def _of_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    return member


def check_demo(printed: str) -> None:
    """Raises AssertionError unless the demo has found every sample."""
    assert "gaps=0 duplicates=0" in printed, printed


def check_tests(printed: str) -> None:
    """Raises AssertionError unless many tests passed, and nothing was left out but what needs root."""
    assert re.search(r"\d\d passed", printed), printed[-20000:]
    skipped = [line for line in printed.splitlines() if "SKIPPED" in line and "needs root" not in line]
    assert not skipped, skipped


def main() -> int:
    """`make demo` and `make test` by each of PEOPLE, their last lines printed."""
    engine = docker.from_env(timeout=3600)
    ensure_base_images(engine)
    with bare_machine(engine) as machine:
        for person, files in PEOPLE.items():
            for command, check in (
                ("make demo", check_demo),
                (f"make test TESTS='{' '.join(files)}'", check_tests),
                ("make test", check_tests),
            ):
                try:
                    printed = machine.run(person, command)
                    check(printed)
                except AssertionError as error:
                    print(error)
                    return 1
                print(f"{person}: {command}\n{printed[-3000:]}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
