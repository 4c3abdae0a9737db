"""Codes by which a robot joins: `K7QF-2M9P`, typed by people, good once and for a few minutes."""

import hashlib
import re
import secrets
from dataclasses import dataclass
from urllib.parse import urlencode

from teleop_schema.certificates.pins import pin_of

# Crockford's digits: none looks like another, and none makes a word.
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
HALF_LENGTH = 4
LASTS_S = 15 * 60
# Of 32**4 second halves, a thief of a first half can try this many.
MAX_TRIES = 5

_CODE = re.compile(rf"([{ALPHABET}]{{{HALF_LENGTH}}})-?([{ALPHABET}]{{{HALF_LENGTH}}})")
# What people write instead.
_MISREAD = str.maketrans("OIL", "011")


@dataclass(frozen=True)
class Code:
    """An enrolment code.

    name    names the enrolment; the database has it as it is
    secret  proves that whoever shows it was given it; the database has its hash
    """

    name: str
    secret: str

    def __str__(self) -> str:
        return f"{self.name}-{self.secret}"

    def __repr__(self) -> str:
        return f"Code({self.name}-…)"

    @property
    def hash(self) -> bytes:
        """What the database has of the secret: 32 bytes.

        Whoever reads the database can find the secret of so short a code; it is worth nothing after LASTS_S.
        """
        return hashlib.sha256(str(self).encode()).digest()


def make_code() -> Code:
    """A new code."""
    return Code(_some(), _some())


def read_code(text: str) -> Code | None:
    """The code that somebody has typed; None if it can't be one."""
    found = _CODE.fullmatch(text.strip().upper().translate(_MISREAD))
    return None if found is None else Code(found[1], found[2])


def joining_line(host: str, code: Code, *, tls: bool, authority: str | None = None) -> str:
    """The line for `sync-agent join`.

    host       name or address of the server, with its port if it is not the scheme's own, and a proxy's path
    tls        whether it is reached by TLS
    authority  PEM certificate of the authority that has signed the server's own; None: one that everybody
               trusts
    """
    return _line(host, {"code": str(code)}, tls=tls, authority=authority)


def pool_line(host: str, token: str, *, tls: bool, authority: str | None = None) -> str:
    """The line for images of a fleet; as `joining_line`, but with the token of a pool."""
    return _line(host, {"pool": token}, tls=tls, authority=authority)


def _line(host: str, shows: dict[str, str], *, tls: bool, authority: str | None) -> str:
    scheme = "lrbs" if tls else "lrb"
    pin = {"pin": pin_of(authority)} if tls and authority else {}
    return f"{scheme}://{host}/?{urlencode({**shows, **pin})}"


def _some() -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(HALF_LENGTH))
