"""One large file from the client's socket to durable, beside dd and nginx's WebDAV PUT of the same file."""

import hashlib
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from figures import Figure, at_least
from teleop_schema.files import DatasetFile, FilePlan, Planned
from teleop_testing.backends.processes import free_port, ingest_process, own_postgres

ROUNDS = 3
FILE_BYTES = 1_000_000_000
MB = 1_000_000
TIMEOUT_S = 120

NGINX = """
daemon off;
{user}
worker_processes 2;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    client_max_body_size 0;
    server {{
        listen 127.0.0.1:{port};
        root {folder}/files;
        location / {{ dav_methods PUT; }}
    }}
}}
"""


def run() -> list[Figure]:
    with own_postgres() as postgres, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "content"
        make(file)
        with (
            ingest_process(postgres.url(), folder / "backup") as service,
            nginx(folder / "nginx") as web,
        ):
            rounds = [one_round(file, number, service.port, web, folder) for number in range(ROUNDS)]
    ours, copied, put = ([each[column] for each in rounds] for column in range(3))
    figures = [
        Figure("plan and PATCH of 1 GB to SHA-256 checked, synced and known", middle(ours), "MB/s"),
        Figure("dd conv=fsync of the same file", middle(copied), "MB/s"),
        Figure("ours / dd", middle([a / b for a, b in zip(ours, copied, strict=True)]), "x"),
    ]
    if None in put:
        return [*figures, Figure("nginx WebDAV PUT of the same file: nginx is not installed", 0, "MB/s")]
    return [
        *figures,
        Figure("nginx WebDAV PUT of the same file, neither hashed nor synced", middle(put), "MB/s"),
        at_least("ours / nginx", middle([a / b for a, b in zip(ours, put, strict=True)]), "x", 0.8),
    ]


def middle(values: list[float]) -> float:
    return statistics.median(values)


def one_round(
    file: Path, number: int, port: int, web_port: int | None, folder: Path
) -> tuple[float, float, float | None]:
    """MB/s of the service, of dd, and of nginx if it is there."""
    with file.open("r+b") as content:
        # Content that the service has not seen before.
        content.write(os.urandom(16))
    plan = FilePlan(
        DatasetFile(
            robot_id="robot_A",
            dataset="bench",
            path=f"data/{number}.parquet",
            size_bytes=FILE_BYTES,
            sha256=sha256_of(file),
        )
    )
    os.sync()
    ours = timed(lambda: through_the_service(port, plan, file))
    os.sync()
    copied = timed(lambda: dd(file, folder / "copied"))
    (folder / "copied").unlink()
    if web_port is None:
        return ours, copied, None
    os.sync()
    put = timed(lambda: request(web_port, "PUT", "/put", {"Content-Length": str(FILE_BYTES)}, file))
    (folder / "nginx/files/put").unlink()
    return ours, copied, put


def timed(work) -> float:
    """MB/s of something that brings the file over."""
    begun = time.perf_counter()
    work()
    return FILE_BYTES / MB / (time.perf_counter() - begun)


def make(file: Path) -> None:
    with file.open("wb") as content:
        for _ in range(FILE_BYTES // MB):
            content.write(os.urandom(MB))


def sha256_of(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def dd(file: Path, target: Path) -> None:
    command = ["dd", f"if={file}", f"of={target}", "bs=1M", "conv=fsync", "status=none"]
    subprocess.run(command, check=True)


def through_the_service(port: int, plan: FilePlan, file: Path) -> None:
    body = msgspec.json.encode(plan)
    answer = request(port, "POST", "/files/plan", {"Content-Length": str(len(body))}, body)
    planned = msgspec.json.decode(answer.partition(b"\r\n\r\n")[2], type=Planned)
    assert planned.upload is not None, planned
    headers = {
        "Tus-Resumable": "1.0.0",
        "Upload-Offset": "0",
        "Content-Type": "application/offset+octet-stream",
        "Content-Length": str(FILE_BYTES),
    }
    request(port, "PATCH", planned.upload, headers, file)


def request(port: int, method: str, path: str, headers: dict[str, str], body: bytes | Path) -> bytes:
    """The whole answer; the client costs as little as can be."""
    headers = {"Host": f"127.0.0.1:{port}", "Connection": "close", **headers}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {text}" for name, text in headers.items())]
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        if isinstance(body, Path):
            with body.open("rb") as content:
                connection.sendfile(content)
        else:
            connection.sendall(body)
        answer = b""
        while part := connection.recv(1 << 16):
            answer += part
    assert answer.split()[1].startswith(b"2"), answer[:500]
    return answer


@contextmanager
def nginx(folder: Path) -> Iterator[int | None]:
    """Port of an nginx that stores what is PUT there; None if it is not installed."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        yield None
        return
    (folder / "files").mkdir(parents=True)
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=port, user=user))
    process = subprocess.Popen([program, "-c", str(config), "-p", str(folder)])
    try:
        wait_for(port)
        yield port
    finally:
        process.terminate()
        process.wait()


def wait_for(port: int) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
