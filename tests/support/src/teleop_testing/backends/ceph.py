"""A real S3 server: Ceph's RADOS Gateway over one monitor and one daemon that keeps all in memory.

From Debian's packages ceph-mon, ceph-osd, ceph-common and radosgw.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import httpx

from teleop_testing.backends.processes import free_port
from teleop_testing.waiting import PATIENCE_S

PROGRAMS = ("ceph-mon", "ceph-osd", "ceph", "radosgw", "radosgw-admin", "ceph-authtool", "monmaptool")
# It starts in some seconds; these say only when to give up.
START_TIMEOUT_S = PATIENCE_S
STOP_TIMEOUT_S = 20.0
KEY, SECRET = "testkey", "testsecret"

CONFIGURATION = """
[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{mon_port}
mon initial members = a
public addr = 127.0.0.1
ms bind ipv6 = false
keyring = {folder}/keyring
mon data = {folder}/mon
osd data = {folder}/osd
admin socket = {folder}/$name.asok
log file = {folder}/$name.log
mon cluster log file = {folder}/cluster.log
mon data avail crit = 1
mon allow pool size one = true
mon max pg per osd = 1000
osd objectstore = memstore
memstore device bytes = 8589934592
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
[client.rgw.a]
rgw frontends = beast endpoint={s3_host}:{s3_port}
"""


def missing_programs() -> list[str]:
    """What this machine lacks for a cluster to be started on it."""
    return [program for program in PROGRAMS if not shutil.which(program)]


@contextmanager
def ceph_s3(host: str = "127.0.0.1") -> Iterator[dict[str, str]]:
    """Environment with which AWS clients reach a running, empty S3 server at an address of this machine."""
    with TemporaryDirectory(prefix="ceph-") as name:
        folder = Path(name)
        port = free_port()
        mon_port = free_port()
        (folder / "ceph.conf").write_text(
            CONFIGURATION.format(fsid=uuid4(), folder=folder, mon_port=mon_port, s3_host=host, s3_port=port)
        )
        cluster = _Cluster(folder)
        try:
            cluster.start(mon_port)
            _wait_for(f"http://{host}:{port}", folder)
            user = ["user", "create", "--uid=test", "--display-name=test"]
            cluster.run("radosgw-admin", *user, f"--access-key={KEY}", f"--secret-key={SECRET}")
            yield {
                "AWS_ENDPOINT_URL": f"http://{host}:{port}",
                "AWS_ALLOW_HTTP": "true",
                "AWS_ACCESS_KEY_ID": KEY,
                "AWS_SECRET_ACCESS_KEY": SECRET,
                "AWS_REGION": "us-east-1",
                "AWS_DEFAULT_REGION": "us-east-1",
            }
        finally:
            cluster.stop()


class _Cluster:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = {**os.environ, "CEPH_CONF": str(folder / "ceph.conf")}
        self._daemons: list[subprocess.Popen[bytes]] = []

    def start(self, mon_port: int) -> None:
        keyring, monmap = str(self._folder / "keyring"), str(self._folder / "monmap")
        (self._folder / "osd").mkdir()
        self.run("ceph-authtool", "-C", keyring)
        for name in ("mon.", "client.admin", "client.rgw.a", "osd.0"):
            caps = ["--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *"]
            self.run("ceph-authtool", keyring, "--gen-key", "-n", name, *caps)
        address = f"[v2:127.0.0.1:{mon_port}]"
        self.run("monmaptool", "--create", "--addv", "a", address, "--fsid", self._fsid(), monmap)
        self.run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)
        self._daemon("ceph-mon", "-i", "a")
        self.run("ceph", "osd", "create")
        self.run("ceph-osd", "-i", "0", "--mkfs")
        self._daemon("ceph-osd", "-i", "0")
        self._daemon("radosgw", "-n", "client.rgw.a")

    def run(self, *command: str) -> None:
        done = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, timeout=START_TIMEOUT_S
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def stop(self) -> None:
        for daemon in reversed(self._daemons):
            daemon.send_signal(signal.SIGTERM)
        for daemon in reversed(self._daemons):
            with suppress(subprocess.TimeoutExpired):
                daemon.wait(STOP_TIMEOUT_S)
            daemon.kill()
            daemon.wait()

    def _daemon(self, *command: str) -> None:
        quiet = subprocess.DEVNULL
        self._daemons.append(
            subprocess.Popen([*command, "--foreground"], env=self._environment, stdout=quiet, stderr=quiet)
        )

    def _fsid(self) -> str:
        lines = (self._folder / "ceph.conf").read_text().splitlines()
        return next(line.split("=")[1].strip() for line in lines if line.startswith("fsid"))


def _wait_for(url: str, folder: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        with suppress(httpx.TransportError):
            if httpx.get(url, timeout=PATIENCE_S).status_code == 200:
                return
        assert time.monotonic() < deadline, [path.read_text()[-500:] for path in folder.glob("*.log")]
        time.sleep(0.1)
