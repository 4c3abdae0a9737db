"""Access tokens: `lrb_<kind>_<256 random bits>_<checksum>`, in base 62.

A token says nothing but its kind: what it may do is in the database, so that it can be revoked at once. The
database has only its SHA-256, which needs no salt, because nobody can guess 256 bits. The checksum tells a
token that was copied in part from one that is unknown, without asking the database.
"""

import hashlib
import re
import secrets
import string
import zlib
from typing import Literal

from teleop_runtime.access.roles import ROLES, Role

# What a token shows: the role of whoever has it, or that it is a fleet's, and only lets robots join.
Kind = Role | Literal["pool"]
POOL: Kind = "pool"
KINDS: tuple[Kind, ...] = (*ROLES, POOL)

RANDOM_BITS = 256
ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
# 62**43 is the first power of 62 beyond 2**256, 62**6 that beyond 2**32.
RANDOM_LENGTH, CHECKSUM_LENGTH = 43, 6
# Enough to tell tokens apart, and too little to guess one: it leaves more than 220 bits.
SHOWN_LENGTH = 6

_KIND = "|".join(KINDS)
_TOKEN = re.compile(
    rf"(lrb_({_KIND})_[0-9A-Za-z]{{{RANDOM_LENGTH}}})_([0-9A-Za-z]{{{CHECKSUM_LENGTH}}})", re.ASCII
)


def make_token(kind: Kind) -> str:
    """A new token."""
    body = f"lrb_{kind}_{_in_base_62(secrets.randbits(RANDOM_BITS), RANDOM_LENGTH)}"
    return f"{body}_{_checksum(body)}"


def kind_of(token: str) -> Kind | None:
    """The kind that a token shows; None if it is not a token, or was changed or cut."""
    found = _TOKEN.fullmatch(token)
    if found is None or _checksum(found[1]) != found[3]:
        return None
    # The same text, as a type checker knows it.
    return next(kind for kind in KINDS if kind == found[2])


def hash_of(token: str) -> bytes:
    """What the database has of a token: 32 bytes."""
    return hashlib.sha256(token.encode()).digest()


def prefix_of(token: str) -> str:
    """The beginning of a token, by which people and logs name it."""
    return token[: token.index("_", len("lrb_")) + 1 + SHOWN_LENGTH]


def _checksum(body: str) -> str:
    return _in_base_62(zlib.crc32(body.encode()), CHECKSUM_LENGTH)


def _in_base_62(number: int, length: int) -> str:
    digits = ""
    for _ in range(length):
        number, digit = divmod(number, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits
