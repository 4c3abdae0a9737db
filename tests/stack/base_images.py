"""Base images where none can be pulled: Debian's own packages under the names that the Dockerfiles use.

`ensure_base_images()` returns once every image of BASE_IMAGES is there: present already, pulled, or, where no
registry can be reached, made here by debootstrap (needs root). A stand-in promises what the stack uses of the
real image: the same commands, users, folders and environment variables; nothing more.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker
from docker.errors import APIError, ImageNotFound
from docker.models.images import Image
from teleop_backend.postgres.programs import bundled_programs

DEBIAN = "lerobot-backend/debian-stand-in:bookworm"
STAND_IN_LABEL = "lerobot-backend.stand-in"
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
STAND_INS = Path(__file__).with_name("stand_ins")

# What Python and PostgreSQL's entrypoint need of Debian; the rest of their images is Python and PostgreSQL.
PACKAGES = "ca-certificates,gosu,libbz2-1.0,libexpat1,libffi8,liblzma5,libsqlite3-0,libssl3,libuuid1,zlib1g"
# Nothing of these is in a slim image either.
NOT_IN_SLIM = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt", "var/lib/apt/lists")
NOT_OF_PYTHON = shutil.ignore_patterns("site-packages", "test", "tests", "idlelib", "__pycache__", "*.a")


def ensure_base_images(client: docker.DockerClient) -> None:
    """Have every base image, made here where it can't be pulled."""
    missing = [name for name in BASE_IMAGES if not _present(client, name) and not _pulled(client, name)]
    if not missing:
        return
    print(f"{', '.join(missing)} can't be pulled, making stand-ins", flush=True)
    _ensure_debian(client)
    with ThreadPoolExecutor() as threads:
        for making in [threads.submit(BASE_IMAGES[name], client, name) for name in missing]:
            making.result()


def _present(client: docker.DockerClient, name: str) -> bool:
    try:
        client.images.get(name)
    except ImageNotFound:
        return False
    return True


def _pulled(client: docker.DockerClient, name: str) -> bool:
    try:
        client.images.pull(name)
    except APIError:
        return False
    return True


def make_python(client: docker.DockerClient, name: str) -> None:
    """Python of this very process in /usr/local, with pip; SystemExit if it is not the one of that name."""
    if not name.startswith(f"python:{sys.version_info.major}.{sys.version_info.minor}-"):
        raise SystemExit(
            f"{name} can't be made of Python {sys.version.split()[0]}: run this with .venv/bin/python"
        )
    with tempfile.TemporaryDirectory(prefix="stand-in-") as folder:
        target = Path(folder, "usr-local")
        prefix, version = Path(sys.base_prefix), f"python{sys.version_info.major}.{sys.version_info.minor}"
        library = target / "lib" / version
        shutil.copytree(prefix / "lib" / version, library, ignore=NOT_OF_PYTHON, symlinks=True)
        for package in (prefix / "lib" / version / "site-packages").glob("pip*"):
            shutil.copytree(package, library / "site-packages" / package.name)
        for shared in (prefix / "lib").glob("libpython*.so*"):
            shutil.copy(shared, target / "lib", follow_symlinks=False)
        (target / "bin").mkdir()
        shutil.copy(prefix / "bin" / version, target / "bin")
        for alias in ("python", "python3"):
            (target / "bin" / alias).symlink_to(version)
        _strip(target)
        _build(client, name, "python", Path(folder))


def make_postgres(client: docker.DockerClient, name: str) -> None:
    """PostgreSQL that comes with the backend, behind an entrypoint that reads the same variables."""
    programs = bundled_programs()
    with tempfile.TemporaryDirectory(prefix="stand-in-") as folder:
        for part in programs.parts:
            shutil.copytree(programs.root / part, Path(folder, "postgres", part))
        _build(client, name, "postgres", Path(folder))


def make_caddy(client: docker.DockerClient, name: str) -> None:
    """Debian's own Caddy 2."""
    with tempfile.TemporaryDirectory(prefix="stand-in-") as folder:
        _build(client, name, "caddy", Path(folder))


def make_prometheus(client: docker.DockerClient, name: str) -> None:
    """Debian's own Prometheus 2, which reads the same configuration."""
    with tempfile.TemporaryDirectory(prefix="stand-in-") as folder:
        _build(client, name, "prometheus", Path(folder))


# Every image that a Dockerfile or compose.yaml of this repository begins with; of Grafana's there is no
# stand-in, since Debian has none.
BASE_IMAGES: dict[str, Callable[[docker.DockerClient, str], None]] = {
    "python:3.12-slim-bookworm": make_python,
    "postgres:18": make_postgres,
    "caddy:2": make_caddy,
    "prom/prometheus:v3.5.0": make_prometheus,
}


def _ensure_debian(client: docker.DockerClient) -> None:
    """The system below all stand-ins, trusting the certificate authorities that this machine trusts."""
    if _present(client, DEBIAN):
        return
    if shutil.which("debootstrap") is None or os.geteuid() != 0:
        raise SystemExit("no base image can be pulled; making stand-ins needs root and debootstrap")
    with tempfile.TemporaryDirectory(prefix="stand-in-debian-") as folder:
        root, archive = Path(folder, "root"), Path(folder, "root.tar")
        subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(root)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        for unwanted in NOT_IN_SLIM:
            shutil.rmtree(root / unwanted)
            (root / unwanted).mkdir()
        shutil.copy(CA_BUNDLE, root / str(CA_BUNDLE).lstrip("/"))
        # pip and uv trust lists of their own otherwise.
        (root / "etc/pip.conf").write_text(f"[global]\ncert = {CA_BUNDLE}\n", "utf-8")
        (root / "etc/uv").mkdir()
        (root / "etc/uv/uv.toml").write_text("system-certs = true\n", "utf-8")
        subprocess.run(["tar", "-C", root, "--numeric-owner", "-cf", archive, "."], check=True)
        repository, tag = DEBIAN.split(":")
        client.api.import_image_from_file(str(archive), repository=repository, tag=tag)


def _strip(folder: Path) -> None:
    """Take the symbols out of a Python that was compiled on this machine; the real image has none either."""
    if shutil.which("strip") is not None:
        libraries = [str(path) for path in folder.rglob("*.so*") if path.is_file() and not path.is_symlink()]
        subprocess.run(["strip", "--strip-unneeded", *libraries], check=True)


def _build(client: docker.DockerClient, name: str, kind: str, folder: Path) -> Image:
    shutil.copytree(STAND_INS / kind, folder, dirs_exist_ok=True)
    image, _ = client.images.build(path=str(folder), tag=name, labels={STAND_IN_LABEL: kind}, rm=True)
    return image


if __name__ == "__main__":
    ensure_base_images(docker.from_env())
