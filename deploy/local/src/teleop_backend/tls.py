"""HTTPS by the one process itself, with a certificate that it signs for its own address."""

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from teleop_runtime.background import Background
from teleop_runtime.serving.app import Running, ServicePart
from teleop_schema.certificates.authority import Authority
from teleop_schema.certificates.secret_file import write_secret

from teleop_backend.settings import LocalSettings

FOLDER = "authority"
SERVER_FILE = "server.pem"
ONLY_OWNER = 0o700
# Beside the address that others use.
ON_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
# A certificate is good for 90 days: even a machine that mostly sleeps has a new one in time.
RENEW_EVERY_S = 24 * 3600.0


class ServerTls:
    """What the server shows to its clients, and what signs it."""

    def __init__(self, folder: Path, name: str) -> None:
        """Raises OSError, and ValueError if what is in the folder is damaged."""
        folder.mkdir(parents=True, mode=ONLY_OWNER, exist_ok=True)
        self._file = folder / SERVER_FILE
        self._names = (name, *(each for each in ON_THIS_MACHINE if each != name))
        self._authority = Authority.kept_in(folder)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.renew()

    @property
    def authority(self) -> str:
        """PEM certificate of the authority."""
        return self._authority.signed.certificate

    def renew(self) -> None:
        """Let new connections see a new certificate."""
        signed = self._authority.sign_server(self._names)
        write_secret(self._file, signed.key + signed.certificate)
        self.context.load_cert_chain(self._file)

    def part(self) -> ServicePart:
        """The renewal, as a part of the server."""

        @asynccontextmanager
        async def lifespan() -> AsyncIterator[Running]:
            async with Background() as background:

                async def renew() -> None:
                    await asyncio.to_thread(self.renew)

                background.every(RENEW_EVERY_S, "renew the certificate", renew, at_once=False)
                yield Running(state={}, told=background.checks())

        return ServicePart(name="tls", operations=[], lifespan=lifespan)


def tls_for(settings: LocalSettings) -> ServerTls | None:
    """As the settings say; SystemExit with the reason if that can't be."""
    if settings.tls is None:
        return None
    folder = settings.data_dir / FOLDER
    try:
        return ServerTls(folder, settings.tls)
    except (OSError, ValueError) as error:
        sys.exit(f"there is no certificate for LEROBOT_BACKEND_TLS={settings.tls}: {folder}: {error}")


def own_authority(settings: LocalSettings) -> str | None:
    """PEM certificate of the authority of a backend that runs; raises OSError and ValueError."""
    if settings.tls is None:
        return None
    return Authority.kept_in(settings.data_dir / FOLDER).signed.certificate
