"""How much memory uploads take."""

import base64
import os
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from teleop_testing.backends.processes import ServiceProcess, ingest_process
from teleop_testing.machine.memory import peak_bytes

UPLOADS = 20
# Three times the limit, together.
UPLOAD_BYTES = 40 * 1024**2
LIMIT_BYTES = 256 * 1024**2
TIMEOUT_S = 600
TUS = {"Tus-Resumable": "1.0.0"}


def create(http: httpx.Client, number: int) -> str:
    """Address of an upload that is one byte longer than what will be sent, so that it stays unfinished."""
    fields = {"robot_id": "robot_A", "dataset": "ds", "path": f"data/{number}.parquet"}
    metadata = ",".join(f"{name} {base64.b64encode(text.encode()).decode()}" for name, text in fields.items())
    headers = {**TUS, "Upload-Length": str(UPLOAD_BYTES + 1), "Upload-Metadata": metadata}
    return http.post("/files", headers=headers).headers["Location"]


def send(service: ServiceProcess, address: str, file: Path) -> bytes:
    """Status line of the answer to one PATCH with all of `file`."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=TIMEOUT_S) as connection:
        lines = [
            f"PATCH {address} HTTP/1.1",
            f"Host: {service.address}",
            "Tus-Resumable: 1.0.0",
            "Upload-Offset: 0",
            "Content-Type: application/offset+octet-stream",
            f"Content-Length: {UPLOAD_BYTES}",
        ]
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        with file.open("rb") as content:
            connection.sendfile(content)
        return connection.recv(1000).splitlines()[0]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_parallel_uploads_take_little_memory(database_url, tmp_path):
    """However long the files are, twenty at once fit into 256 MiB."""
    file = tmp_path / "sparse"
    file.touch()
    os.truncate(file, UPLOAD_BYTES)
    with (
        ingest_process(database_url, tmp_path / "backup") as service,
        httpx.Client(base_url=f"http://{service.address}", timeout=TIMEOUT_S) as http,
        ThreadPoolExecutor(UPLOADS) as senders,
    ):
        uploads = [create(http, number) for number in range(UPLOADS)]
        answers = list(senders.map(lambda address: send(service, address, file), uploads))
        offsets = [http.head(address, headers=TUS).headers["Upload-Offset"] for address in uploads]
        peak = peak_bytes(service.pid)
        for address in uploads:
            http.delete(address, headers=TUS)
    assert {answer.split()[1] for answer in answers} == {b"204"}
    assert set(offsets) == {str(UPLOAD_BYTES)}
    assert peak < LIMIT_BYTES
