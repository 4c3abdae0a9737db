"""Which token to show to which backend. A token is shown to the backend that it is for, and to no other."""

import os
import ssl
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Self

import msgspec
from msgspec import Struct
from teleop_schema.decoding import DECODE_ERRORS

from teleop_client.address import same_backend

TOKEN_VARIABLE = "LEROBOT_BACKEND_TOKEN"  # noqa: S105
URL_VARIABLE = "LEROBOT_BACKEND_URL"
# What others of this machine may do with the file: nothing.
OTHERS = 0o077


class UnusableCredentials(OSError):
    """The file with the tokens is there, but must not or can't be used; the text says what to do."""


class Credential(Struct, frozen=True, kw_only=True):
    """One token, as `sync-agent join` keeps it.

    backend_url  of the backend that it is for, ws://… or wss://…
    robot_id     of the robot that it is for; None: it is a person's
    authority    PEM certificate of the authority that signs the backend's; None: one that everybody trusts
    """

    backend_url: str
    robot_id: str | None = None
    token: str
    authority: str | None = None


@cache
def trusting(authority: str) -> ssl.SSLContext:
    """For connections to servers whose certificate this authority (PEM) has signed, and to no others.

    Raises UnusableCredentials if it is not a certificate.
    """
    try:
        return ssl.create_default_context(cadata=authority)
    except (ssl.SSLError, ValueError) as error:
        raise UnusableCredentials(
            "the authority kept with the tokens is damaged: join the backend again"
        ) from error


def credentials_file() -> Path:
    """lerobot-backend/credentials in $XDG_CONFIG_HOME or ~/.config; RuntimeError if the user has no home."""
    config = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(config).expanduser() / "lerobot-backend" / "credentials"


def read_credentials(path: Path) -> tuple[Credential, ...]:
    """The tokens in that file, none if there is no file; raises UnusableCredentials."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & OTHERS:
                raise UnusableCredentials(f"other users may read the tokens in {path}: chmod 600 {path}")
            return msgspec.json.decode(file.read(), type=tuple[Credential, ...])
    except FileNotFoundError:
        return ()
    except DECODE_ERRORS as error:
        told = f"{path} is damaged ({error}): remove it, and join the backend again"
        raise UnusableCredentials(told) from error
    except UnusableCredentials:
        raise
    except OSError as error:
        raise UnusableCredentials(f"{path} can't be read: {error.strerror}") from error


class Tokens:
    """The tokens of this process: one that was given to it, and those in the file of credentials.

    The file is read again when it changes: a robot that joins again goes on without a new start.
    """

    def __init__(self, given: tuple[str, str] | None = None) -> None:
        """`given`: the address of a backend and the token for it, which comes before those in the file."""
        self._given = given if given and given[1] else None
        self._known: tuple[Credential, ...] = ()
        self._known_as: tuple[int, int, int] | None = None

    @classmethod
    def of_environment(cls, backend_url: str | None = None) -> Self:
        """With LEROBOT_BACKEND_TOKEN, which is for the backend of LEROBOT_BACKEND_URL, and if that
        is not set, for `backend_url`: the one that the command names.
        """
        address = os.environ.get(URL_VARIABLE) or backend_url
        token = os.environ.get(TOKEN_VARIABLE, "").strip()
        return cls((address, token) if address and token else None)

    def token_for(self, backend_url: str, robot_id: str | None) -> str | None:
        """The token to show to that backend for that robot (None: for a person), None if there is none.

        Raises UnusableCredentials.
        """
        if self._given and _is_same(self._given[0], backend_url):
            return self._given[1]
        for each in self._in_file():
            if each.robot_id == robot_id and _is_same(each.backend_url, backend_url):
                return each.token
        return None

    def header_for(self, backend_url: str, robot_id: str | None) -> dict[str, str]:
        """The same as a header of HTTP; empty if there is no token. Raises UnusableCredentials."""
        token = self.token_for(backend_url, robot_id)
        return {"Authorization": f"Bearer {token}"} if token else {}

    def trust_for(self, backend_url: str, robot_id: str | None) -> ssl.SSLContext | None:
        """By which authority to know that backend; None: by those that this machine trusts.

        Raises UnusableCredentials.
        """
        here = [
            each for each in self._in_file() if each.authority and _is_same(each.backend_url, backend_url)
        ]
        best = next((each for each in here if each.robot_id == robot_id), next(iter(here), None))
        return trusting(best.authority) if best and best.authority else None

    def for_child(self) -> Mapping[str, str]:
        """Environment variables with which `of_environment` of a child process finds the same token.

        Not an argument, because every user of the machine could read that.
        """
        return {URL_VARIABLE: self._given[0], TOKEN_VARIABLE: self._given[1]} if self._given else {}

    def _in_file(self) -> tuple[Credential, ...]:
        try:
            path = credentials_file()
            found = path.stat()
        except (RuntimeError, FileNotFoundError, NotADirectoryError):
            return ()
        except OSError as error:
            raise UnusableCredentials(f"{path} can't be read: {error.strerror}") from error
        looks = found.st_ino, found.st_mtime_ns, found.st_size
        if looks != self._known_as:
            self._known, self._known_as = read_credentials(path), looks
        return self._known


def _is_same(one: str, other: str) -> bool:
    with suppress(ValueError):
        return same_backend(one, other)
    return False
