"""Reverse proxies that strangers use, run for tests: nginx and Caddy, of Debian."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from teleop_testing.backends.processes import free_port
from teleop_testing.waiting import PATIENCE_S, until

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
CADDY = shutil.which("caddy")
needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is missing: apt-get install nginx-light")
needs_caddy = pytest.mark.skipif(CADDY is None, reason="caddy is missing: apt-get install caddy")

# What Debian's nginx.conf has beside this does not touch requests.
_NGINX = """
daemon off;
master_process off;
pid {folder}/pid;
error_log stderr;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port}{tls};
        {locations}
    }}
}}
"""
_NGINX_TLS = " ssl;\n        ssl_certificate {0}/cert.pem;\n        ssl_certificate_key {0}/key.pem"
_CADDY = """
{{
    admin off
    auto_https off
    storage file_system {folder}/caddy
    # Without HTTP/3: the UDP port of that number holds the test's port for it.
    servers {{
        protocols h1 h2
    }}
}}
{site} {{
    {directives}
}}
"""


def make_certificate(folder: Path) -> Path:
    """A certificate of `localhost`, which is its own authority, as `cert.pem` beside its `key.pem`."""
    certificate = folder / "cert.pem"
    names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(certificate)]
    subprocess.run([*command, *files], check=True, capture_output=True, timeout=PATIENCE_S)
    return certificate


@asynccontextmanager
async def nginx(folder: Path, locations: str, *, tls: bool = False) -> AsyncIterator[int]:
    """Port of an nginx with these directives in its server; for `tls`, `make_certificate` first."""
    port = free_port()
    options = _NGINX_TLS.format(folder) if tls else ""
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, port=port, tls=options, locations=locations))
    async with running_proxy(port, str(NGINX), "-c", str(config), "-e", "stderr", "-p", str(folder)):
        yield port


@asynccontextmanager
async def caddy(folder: Path, directives: str) -> AsyncIterator[int]:
    """Port of a Caddy that runs with these directives for localhost, by TLS; `make_certificate` first."""
    tls = f"tls {folder}/cert.pem {folder}/key.pem"
    async with _caddy(folder, "https://localhost", f"{tls}\n    {directives}") as port:
        yield port


@asynccontextmanager
async def caddy_without_tls(folder: Path, directives: str) -> AsyncIterator[int]:
    """The same by plain HTTP."""
    async with _caddy(folder, "http://127.0.0.1", directives) as port:
        yield port


@asynccontextmanager
async def _caddy(folder: Path, site: str, directives: str) -> AsyncIterator[int]:
    port = free_port()
    config = folder / "Caddyfile"
    config.write_text(_CADDY.format(folder=folder, site=f"{site}:{port}", directives=directives))
    async with running_proxy(port, str(CADDY), "run", "--config", str(config), "--adapter", "caddyfile"):
        yield port


@asynccontextmanager
async def running_proxy(
    port: int, *command: str, environment: Mapping[str, str] | None = None
) -> AsyncIterator[None]:
    """A program that listens on that port of this machine, for the block; with these variables, too."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, **(environment or {})},
    )

    async def answers() -> bool:
        assert process.returncode is None, command
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    try:
        await until(answers)
        yield
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        async with asyncio.timeout(PATIENCE_S):
            await process.wait()
