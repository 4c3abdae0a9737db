"""Joining with the line of a fleet, or by asking an admin.

This computer makes a secret, and the backend knows it again by that: it can ask how far its request is, and
gets its token even if an answer was lost on the way.
"""

import asyncio
import logging
import os
import secrets
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct
from teleop_client.address import check_backend_url, same_backend
from teleop_client.backend_http import BackendHttp, HttpFailure, Interrupted, Refused
from teleop_client.credentials import (
    Credential,
    Tokens,
    UnusableCredentials,
    credentials_file,
    trusting,
)
from teleop_client.persevering import persevere
from teleop_schema.decoding import DECODE_ERRORS
from teleop_schema.errors import BadInput
from teleop_schema.identifiers import check_robot_id
from teleop_schema.words import shown

from teleop_sync_agent.errors import AgentError, Failed, ServerAway
from teleop_sync_agent.joining import (
    ANSWER_S,
    Line,
    Token,
    add_credential,
    check_writable,
    fetch_authority,
    join,
    keep,
    kept_alone,
    pinned_authority,
    read_line,
    told_joined,
)

# Between two questions how far the request is: a person may wait for it. The backend closes connections that
# are silent for 5 s.
ASK_AGAIN_S = 3.0
# Of an agent that was refused: meanwhile somebody may let it join in another way.
REFUSED_AGAIN_S = 60.0

log = logging.getLogger(__name__)

# What somebody may have to know who waits: the code to approve, and the pin of whoever answers, if nothing
# has said before which one is right.
type Tell = Callable[[str, str | None], None]


class AskedAs(Struct, frozen=True):
    """The secret with which this computer has asked a backend that a robot may join."""

    backend_url: str
    robot_id: str
    secret: str


class Asked(Struct, frozen=True):
    """The backend's answer.

    code   which an admin approves
    token  None: it waits
    """

    robot_id: str
    code: str
    token: Token | None


def join_here(text: str, robot_id: str | None, *, ask: bool) -> str:
    """Let a robot of this PC join; returns what to tell the person. Raises AgentError.

    text      a line; if this PC has none and has to `ask`, the address of the backend
    robot_id  None: as $LEROBOT_BACKEND_ROBOT_ID or the line says
    """
    try:
        line = Line(check_backend_url(text.strip()), None) if ask else read_line(text)
        if line.code is not None:
            if robot_id:
                raise AgentError("this line is for one robot, and says which: leave out --robot_id")
            return join(line)
        robot_id = robot_id or os.environ.get("LEROBOT_BACKEND_ROBOT_ID")
        if not robot_id:
            raise AgentError("which robot is this? Set --robot_id arm_07 or LEROBOT_BACKEND_ROBOT_ID")
        check_robot_id(robot_id)
    except (ValueError, BadInput) as error:
        raise AgentError(str(error)) from error
    asyncio.run(_ask(line, robot_id))
    return told_joined(line.backend_url, robot_id)


async def _ask(line: Line, robot_id: str) -> None:
    def tell(code: str, pin: str | None) -> None:
        print(
            f"{robot_id} waits until an admin of {line.backend_url} approves",
            f"  code  {shown(code)}",
            sep="\n",
        )
        if pin is not None:
            print(
                f"  pin   {pin}\n        must be the one that `robots waiting` shows there: compare it first"
            )
        print(f"on the server: lerobot-backend robots waiting, then robots approve {shown(code)}", flush=True)

    if not await _has_joined(line.backend_url, robot_id):
        await ask_to_join(line, robot_id, tell, patient=False)


async def join_first(line: Line, robot_id: str, tokens: Tokens) -> None:
    """Return once the robot has a token for the backend of the line; waits as long as that takes.

    tokens  that this process knows
    """

    def tell(code: str, _pin: str | None) -> None:
        log.warning("waiting until an admin approves", extra={"code": code, "robot_id": robot_id})

    while not _has_token(tokens, line.backend_url, robot_id):
        try:
            await ask_to_join(line, robot_id, tell, patient=True)
        except Failed as error:
            log.error("this robot can't join", extra={"error": str(error)})
            await asyncio.sleep(REFUSED_AGAIN_S)


async def ask_to_join(line: Line, robot_id: str, tell: Tell, *, patient: bool) -> None:
    """Keep a token for the robot once the backend gives it one.

    patient  whether to wait for a backend that can't be reached; later on, everybody does

    Raises Failed if it is refused, ServerAway, and AgentError if the token can't be kept.
    """
    check_writable()

    async def find() -> tuple[str | None, str | None]:
        return await _authority(line)

    try:
        authority, pin = await (persevere(find, report=_report) if patient else find())
    except HttpFailure as error:
        raise _refused(line, error) from error
    trust = trusting(authority) if authority else None
    async with BackendHttp(line.backend_url, trust=trust) as backend:
        token = await _until_joined(backend, line, robot_id, lambda code: tell(code, pin), patient)
    # Before the secret is forgotten: killed in between, the next question gets a token again.
    add_credential(
        Credential(backend_url=line.backend_url, robot_id=robot_id, token=token, authority=authority)
    )
    if line.pool is None:
        # The next time it asks, an admin decides again.
        _forget(line.backend_url, robot_id)


async def _until_joined(
    backend: BackendHttp, line: Line, robot_id: str, tell: Callable[[str], None], patient: bool
) -> str:
    told = ""
    while True:
        body = {"robot_id": robot_id, "secret": _secret_for(line.backend_url, robot_id), "pool": line.pool}

        async def question(body: object = body) -> Asked:
            return await backend.ask("POST", "/join/requests", Asked, body=body, patience_s=ANSWER_S)

        try:
            asked = await (persevere(question, report=_report) if patient or told else question())
        except HttpFailure as error:
            if error.code == "join_expired" or (line.pool is None and isinstance(error, Refused)):
                _forget(line.backend_url, robot_id)
            # With a new secret it is a new request, which the line of the fleet may make.
            if line.pool is not None and error.code == "join_expired":
                continue
            raise _refused(line, error) from error
        if asked.token is not None:
            return asked.token
        if asked.code != told:
            told = asked.code
            tell(told)
        await asyncio.sleep(ASK_AGAIN_S)


async def _authority(line: Line) -> tuple[str | None, str | None]:
    """Authority of the backend, None if everybody trusts it; and its pin if a person has to compare it."""
    if line.pin is not None:
        return await pinned_authority(line), None
    if not line.backend_url.startswith("wss"):
        return None, None
    async with BackendHttp(line.backend_url) as backend:
        try:
            async with backend.request("GET", "/healthz", patience_s=ANSWER_S):
                return None, None
        except Interrupted as error:
            if not error.untrusted:
                raise
    return await fetch_authority(line.backend_url)


async def _has_joined(backend_url: str, robot_id: str) -> bool:
    """Whether this computer has a token for the robot that works; raises AgentError."""
    tokens = Tokens()
    if not _has_token(tokens, backend_url, robot_id):
        return False
    async with BackendHttp(backend_url, tokens=tokens, robot_id=robot_id) as backend:
        try:
            async with backend.request("GET", "/me", patience_s=ANSWER_S):
                return True
        except HttpFailure as error:
            if error.code == "unauthorized":
                return False
            raise (Failed if error.problem else ServerAway)(str(error)) from error


def _has_token(tokens: Tokens, backend_url: str, robot_id: str) -> bool:
    try:
        return tokens.token_for(backend_url, robot_id) is not None
    except UnusableCredentials as error:
        raise AgentError(str(error)) from error


def _refused(line: Line, error: HttpFailure) -> AgentError:
    kind = Failed if error.problem else ServerAway
    return kind(f"{line.backend_url} did not let this robot join: {error}")


def _report(error: Interrupted) -> None:
    log.warning("the backend can't be asked", extra={"error": str(error)})


def _secret_for(backend_url: str, robot_id: str) -> str:
    """The secret of this computer for that robot, which is on disk before the backend hears it."""
    with kept_alone():
        known = _read_secrets()
        for each in known:
            if _is_about(each, backend_url, robot_id):
                return each.secret
        made = AskedAs(backend_url, robot_id, secrets.token_urlsafe(32))
        keep(_secrets_file(), (*known, made))
    return made.secret


def _forget(backend_url: str, robot_id: str) -> None:
    with kept_alone():
        others = [each for each in _read_secrets() if not _is_about(each, backend_url, robot_id)]
        keep(_secrets_file(), tuple(others))


def _is_about(asked: AskedAs, backend_url: str, robot_id: str) -> bool:
    return asked.robot_id == robot_id and same_backend(asked.backend_url, backend_url)


def _secrets_file() -> Path:
    return credentials_file().with_name("asked")


def _read_secrets() -> tuple[AskedAs, ...]:
    path = _secrets_file()
    try:
        return msgspec.json.decode(path.read_bytes(), type=tuple[AskedAs, ...])
    except FileNotFoundError:
        return ()
    except DECODE_ERRORS as error:
        raise AgentError(f"{path} is damaged ({error}): remove it, and ask again") from error
