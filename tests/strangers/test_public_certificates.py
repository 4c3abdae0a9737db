"""The stack's door to the internet: the real Caddyfile, and a real ACME server that issues its certificate.

The ACME server is Let's Encrypt's own test server, Pebble; its DNS answers every name with this machine.
"""

import asyncio
import json
import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import httpx
import pytest
from teleop_schema.certificates.authority import CERTIFICATE_FILE, Authority
from teleop_schema.certificates.secret_file import write_secret
from teleop_testing.backends.processes import ServiceProcess, free_port, whole_backend
from teleop_testing.backends.reverse_proxies import CADDY, running_proxy
from teleop_testing.robots.lines import connect
from teleop_testing.waiting import PATIENCE_S, until
from websockets.exceptions import InvalidStatus

PEBBLE = shutil.which("pebble")
PROXY = Path(__file__).parents[2] / "deploy/proxy"
DOMAIN = "robots.example.org"

pytestmark = pytest.mark.skipif(
    None in (CADDY, PEBBLE), reason="caddy or pebble is missing: apt-get install caddy pebble"
)


@pytest.fixture
def backend(tmp_path: Path):
    """The whole backend, which lets nobody in without a token, behind the proxy."""
    closed = {
        "LEROBOT_BACKEND_EXPOSURE": "internet",
        "LEROBOT_BACKEND_TRUST_NETWORK": "no",
        "LEROBOT_BACKEND_PROXIES": "127.0.0.1",
    }
    with whole_backend(tmp_path, **closed) as process:
        yield process


class Names(asyncio.DatagramProtocol):
    """A DNS server for which every name is this machine."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open."""
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer one question: with 127.0.0.1 if it is for an address of IPv4, with nothing otherwise."""
        # A header of 12 bytes, the name as labels up to an empty one, then type and class.
        end = data.index(0, 12) + 5
        of_ipv4 = data[end - 4 : end - 2] == b"\x00\x01"
        # The name is that of the question; a minute; four bytes.
        answer = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x7f\x00\x00\x01" if of_ipv4 else b""
        counts = b"\x00\x01" + (b"\x00\x01" if of_ipv4 else b"\x00\x00") + b"\x00" * 4
        self._transport.sendto(data[:2] + b"\x81\x80" + counts + data[12:end] + answer, addr)


@asynccontextmanager
async def acme(folder: Path, http: int, https: int) -> AsyncIterator[tuple[str, str]]:
    """Address of an ACME server that looks at these ports, and of where the root of its certificates is."""
    port, management = free_port(), free_port()
    authority = Authority.kept_in(folder)
    signed = authority.sign_server(["localhost", "127.0.0.1"])
    write_secret(folder / "acme.crt", signed.certificate)
    write_secret(folder / "acme.key", signed.key)
    config = {
        "listenAddress": f"127.0.0.1:{port}",
        "managementListenAddress": f"127.0.0.1:{management}",
        "certificate": str(folder / "acme.crt"),
        "privateKey": str(folder / "acme.key"),
        "httpPort": http,
        "tlsPort": https,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": False,
    }
    (folder / "pebble.json").write_text(json.dumps({"pebble": config}))
    # It waits at random before it looks, and refuses some requests at random, unless it is asked not to.
    calm = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0"}
    names, _ = await asyncio.get_running_loop().create_datagram_endpoint(Names, ("127.0.0.1", 0))
    host, dns = names.get_extra_info("sockname")
    command = (str(PEBBLE), "-config", str(folder / "pebble.json"), "-dnsserver", f"{host}:{dns}")
    try:
        async with running_proxy(port, *command, environment=calm):
            yield f"https://localhost:{port}/dir", f"https://localhost:{management}/roots/0"
    finally:
        names.close()


@pytest.fixture
async def site(backend: ServiceProcess, tmp_path: Path) -> AsyncIterator[tuple[int, int, ssl.SSLContext]]:
    """Ports of the proxy for HTTP and HTTPS, and what its certificate is trusted with."""
    http, https, health = free_port(), free_port(), free_port()
    async with acme(tmp_path, http, https) as (directory, root):
        caddyfile = (PROXY / "Caddyfile.internet").read_text()
        changes = {
            "admin off": f"admin off\n\tacme_ca {directory}\n\tstorage file_system {tmp_path}/caddy",
            "8080": str(http),
            "8443": str(https),
            "import options.caddy": "servers {\n\t\tprotocols h1 h2\n\t}",
            "import routes.caddy": f"reverse_proxy {backend.address}",
            "import health.caddy": f"http://127.0.0.1:{health} {{\n\trespond /healthz 200\n}}",
        }
        for one, other in changes.items():
            assert one in caddyfile
            caddyfile = caddyfile.replace(one, other)
        (tmp_path / "Caddyfile").write_text(caddyfile)
        command = (str(CADDY), "run", "--config", str(tmp_path / "Caddyfile"), "--adapter", "caddyfile")
        trusting = {"LEROBOT_BACKEND_DOMAIN": DOMAIN, "SSL_CERT_FILE": str(tmp_path / CERTIFICATE_FILE)}
        async with running_proxy(https, *command, environment=trusting):
            known = ssl.create_default_context(cafile=tmp_path / CERTIFICATE_FILE)
            async with httpx.AsyncClient(verify=known, timeout=PATIENCE_S) as client:
                trust = ssl.create_default_context(cadata=(await client.get(root)).text)
            yield http, https, trust


async def test_the_door_to_the_internet(backend, site):
    """A public certificate, HTTPS alone, for browsers from then on; robots come through with a token."""
    http, https, trust = site
    named = {"headers": {"Host": f"{DOMAIN}:{https}"}, "extensions": {"sni_hostname": DOMAIN}}
    async with httpx.AsyncClient(verify=trust, timeout=PATIENCE_S) as client:

        async def issued() -> bool:
            try:
                answer = await client.get(f"https://127.0.0.1:{https}/readyz", **named)
            except httpx.TransportError:
                return False
            return answer.status_code == 200

        await until(issued)
        answer = await client.get(f"https://127.0.0.1:{https}/sessions", **named)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
        assert answer.headers.get_list("Strict-Transport-Security") == ["max-age=31536000"]
        page = await client.get(f"https://127.0.0.1:{https}/sign-in", **named)
        assert "script-src" in page.headers["Content-Security-Policy"], "the page's own, and no other"
        assert len(page.headers.get_list("Content-Security-Policy")) == 1
        plain = await client.get(f"http://127.0.0.1:{http}/sessions", headers={"Host": DOMAIN})
        assert plain.is_redirect
        assert plain.headers["Location"].startswith(f"https://{DOMAIN}")
        for shown in ({"Authorization": "Bearer lrb_x"}, {"Sec-WebSocket-Protocol": "v1, bearer.lrb_x"}):
            refused = await client.get(f"http://127.0.0.1:{http}/sessions", headers={"Host": DOMAIN, **shown})
            assert (refused.status_code, refused.json()["code"]) == (403, "https_needed")
            assert "revoke it" in refused.json()["hint"]
    token = on_server(backend, "tokens", "add", "robot_A", "--role", "robot")
    address = f"wss://{DOMAIN}:{https}/ws/log/robot_A"
    way = {"host": "127.0.0.1", "port": https, "ssl": trust, "proxy": None}
    with pytest.raises(InvalidStatus) as refused:
        await connect(address, **way)
    assert refused.value.response.status_code == 401
    async with connect(address, additional_headers={"Authorization": f"Bearer {token}"}, **way) as line:
        await line.send(json.dumps({"observation": {"a": 1}}))
    async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
        # Past the proxy, from this machine, by the account that runs the backend.
        shown = {"headers": {"Authorization": f"Bearer {token}"}}
        answer = await client.get(f"http://{backend.address}/robots/robot_A/receipts", **shown)
        assert answer.status_code != 403
    line = on_server(backend, "robots", "add", "robot_A", "--server", f"https://{DOMAIN}").splitlines()[0]
    assert re.fullmatch(rf"lrbs://{DOMAIN}/\?code=[0-9A-Z-]{{9}}", line)


def on_server(backend: ServiceProcess, *words: str) -> str:
    """What a command of the backend's owner printed."""
    command = [Path(sys.executable).with_name("lerobot-backend"), *words]
    done = subprocess.run(
        command, env=backend.environment, capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    return done.stdout.strip()
