"""`sync-agent join`: swaps the line that `lerobot-backend robots add` printed for this robot's own token."""

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

import msgspec
from lerobot_robot_backend.spool.durable import make_directory, replace_file
from lerobot_robot_backend.spool.locks import FileLock
from msgspec import Meta, Struct
from teleop_client.address import check_backend_url, same_backend
from teleop_client.backend_http import BackendHttp, HttpFailure, read_at_most
from teleop_client.credentials import (
    Credential,
    UnusableCredentials,
    credentials_file,
    read_credentials,
    trusting,
)
from teleop_schema.certificates.pins import is_pin, pin_of
from teleop_schema.errors import BadRobotId
from teleop_schema.identifiers import check_robot_id

from teleop_sync_agent.errors import AgentError, Failed, ServerAway, not_written

EXAMPLE = "lrb://host:8000/?code=K7QF-2M9P"
# lrb is plain HTTP; lrbs is TLS, with a certificate that everybody trusts unless the line has a pin.
SCHEMES = {"lrb": "ws", "lrbs": "wss"}
# A person waits for the answer.
ANSWER_S = 30.0
OWNER_ONLY = 0o700
MAX_CERTIFICATE_BYTES = 64 * 1024


# Programs hold the lock while they write a small file.
LOCK_S = 10.0

type Token = Annotated[str, Meta(pattern=r"^lrb_[A-Za-z0-9_]{1,200}$(?!\n)")]


class Line(Struct, frozen=True):
    """What `lerobot-backend robots add` or `robots pool add` printed.

    backend_url  ws://… or wss://…
    code         for one robot; works once, and for some minutes; None: the line is not for one robot
    pin          of the authority that signs the backend's certificate; None: one that everybody trusts
    pool         token of a fleet, for its new robots; None: the line is not for a fleet
    """

    backend_url: str
    code: str | None
    pin: str | None = None
    pool: str | None = None


class Joined(Struct, frozen=True):
    """The backend's answer."""

    robot_id: str
    token: Token


def read_line(text: str) -> Line:
    """The parts of an enrolment line; raises ValueError saying what is wrong with it."""
    told = f"expected the line that `lerobot-backend robots add` prints, like {EXAMPLE}"
    try:
        parts = urlsplit(text.strip())
        query = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}; {told}") from error
    if parts.scheme not in SCHEMES:
        raise ValueError(f"{text!r} is not an enrolment line; {told}")
    # A newer backend may say something there without which joining is unsafe.
    unknown = query.keys() - {"code", "pool", "pin"}
    if unknown:
        raise ValueError(f"this sync-agent does not know {min(unknown)!r} in the line: update it")
    codes, pools = query.get("code", []), query.get("pool", [])
    if len(codes) + len(pools) != 1 or not (codes or pools)[0]:
        raise ValueError(f"{text!r} has no code; {told}")
    pins = query.get("pin", [])
    if pins and (parts.scheme != "lrbs" or len(pins) > 1 or not is_pin(pins[0])):
        raise ValueError(f"{text!r}: its pin is damaged; {told}")
    address = f"{SCHEMES[parts.scheme]}://{parts.netloc}{parts.path}"
    return Line(
        check_backend_url(address),
        codes[0] if codes else None,
        pins[0] if pins else None,
        pools[0] if pools else None,
    )


def join(line: Line) -> str:
    """Enrol this robot PC with the line for one robot; returns what to tell the person. Raises AgentError."""
    # The code works once: there must be room for what it buys before it is used.
    check_writable()
    joined, authority = asyncio.run(_redeem(line))
    credential = Credential(
        backend_url=line.backend_url, robot_id=joined.robot_id, token=joined.token, authority=authority
    )
    try:
        add_credential(credential)
    except AgentError as error:
        raise Failed(
            f"the token could not be kept ({error}), and the code works only once: ask for a new line"
        ) from error
    return told_joined(line.backend_url, joined.robot_id)


def told_joined(backend_url: str, robot_id: str) -> str:
    """What to tell a person whose robot has joined."""
    return (
        f"{robot_id} may send to {backend_url} now; its token is in {credentials_file()}\n"
        f"record   lerobot-record … --backend_url={backend_url} --robot_id={robot_id}\n"
        f"backup   sync-agent run --backend_url {backend_url} --robot_id {robot_id}"
    )


async def _redeem(line: Line) -> tuple[Joined, str | None]:
    """What the code buys, and the authority of the backend."""
    authority = await pinned_authority(line) if line.pin else None
    trust = trusting(authority) if authority else None
    async with BackendHttp(line.backend_url, trust=trust) as backend:
        try:
            joined = await backend.ask("POST", "/join", Joined, body={"code": line.code}, patience_s=ANSWER_S)
        except HttpFailure as error:
            kind = Failed if error.problem else ServerAway
            raise kind(f"{line.backend_url} did not let this robot join: {error}") from error
    try:
        check_robot_id(joined.robot_id)
    except BadRobotId as error:
        raise Failed(f"{line.backend_url} answered with a name that no robot can have: {error}") from error
    return joined, authority


async def pinned_authority(line: Line) -> str:
    """The certificate that the pin in the line is of; raises AgentError.

    Whoever sits on the way can answer with another one, which has another pin. Nothing else is sent or
    believed before that is known.
    """
    try:
        text, found = await fetch_authority(line.backend_url)
    except HttpFailure as error:
        kind = Failed if error.problem else ServerAway
        raise kind(f"{line.backend_url} did not say who signs its certificate: {error}") from error
    if found != line.pin:
        raise Failed(
            f"{line.backend_url} is not the backend that this line is from: another one answers there, or "
            "somebody on the way; nothing was sent. If the backend was set up again, ask for a new line"
        )
    return text


async def fetch_authority(backend_url: str) -> tuple[str, str]:
    """Certificate of the authority of whoever answers there, which may be anybody, and its pin.

    Raises HttpFailure, and Failed if the answer is not a certificate.
    """
    anybody = ssl.create_default_context()
    # Nothing is believed but the certificate, and that only if it has the pin.
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    async with (
        BackendHttp(backend_url, trust=anybody) as backend,
        backend.request("GET", "/authority", patience_s=ANSWER_S) as (response, _),
    ):
        text = (await read_at_most(response, MAX_CERTIFICATE_BYTES)).decode("ascii", "replace")
    try:
        return text, pin_of(text)
    except ValueError as error:
        raise Failed(f"{backend_url} did not answer with a certificate: {error}") from error


def check_writable() -> None:
    """See that tokens can be kept; raises AgentError."""
    with kept_alone() as path:
        keep(path, read_credentials(path))


def add_credential(credential: Credential) -> None:
    """Keep it, in the place of an older one for the same robot and backend; raises AgentError."""
    with kept_alone() as path:
        keep(path, with_credential(read_credentials(path), credential))


@contextmanager
def kept_alone() -> Iterator[Path]:
    """The file of credentials, whose folder no other agent changes meanwhile; raises AgentError."""
    path = credentials_file()
    try:
        make_directory(path.parent, mode=OWNER_ONLY, exist_ok=True)
        lock = FileLock(path.with_name("lock"))
        lock.acquire_soon(LOCK_S)
        try:
            yield path
        finally:
            lock.release()
    except UnusableCredentials as error:
        raise AgentError(str(error)) from error
    except OSError as error:
        raise not_written(str(error.filename or path), error) from error


def with_credential(known: tuple[Credential, ...], new: Credential) -> tuple[Credential, ...]:
    """All of them, with the new one in the place of an older one for the same robot and backend."""

    def is_older(each: Credential) -> bool:
        return each.robot_id == new.robot_id and same_backend(each.backend_url, new.backend_url)

    return (*(each for each in known if not is_older(each)), new)


def keep(path: Path, credentials: tuple[Struct, ...]) -> None:
    """Write the file, whole or not at all, readable by this user only; raises OSError."""
    replace_file(path, msgspec.json.format(msgspec.json.encode(credentials)) + b"\n", durable=True)
