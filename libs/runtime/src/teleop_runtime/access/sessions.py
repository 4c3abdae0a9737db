"""Sessions of browsers that have signed in, and the links that are good once. Pure.

A session is a random id in a cookie. All that it means is in the database, so that it can end at once.
"""

import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping

from teleop_schema.errors import Forbidden

# Of a session's id and of a link's code: nobody can guess them, so their hashes need no salt.
RANDOM_BYTES = 32
LINK_LASTS_S = 15 * 60
# A person signs in again after this time, however much the session was used; without use, sooner
# (`teleop_runtime.signed_in`).
LASTS_S = 90 * 24 * 3600
# No page of another host name, and no page of plain HTTP, can set a cookie whose name begins so.
SECURE_NAME, PLAIN_NAME = "__Host-lerobot_session", "lerobot_session"
READING = ("GET", "HEAD")

_SECRET = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


def make_secret() -> str:
    """A new session's id, or a new link's code."""
    return secrets.token_urlsafe(RANDOM_BYTES)


def hash_of_secret(secret: str) -> bytes:
    """What the database has of it: 32 bytes."""
    return hashlib.sha256(secret.encode()).digest()


def is_secret(text: str) -> bool:
    """Whether a text can be one."""
    return _SECRET.fullmatch(text) is not None


def sign_in_link(page: str, code: str) -> str:
    """The link that signs somebody in.

    page  address of `/sign-in`. The code is behind `#`: browsers keep that to themselves, so that no server,
          proxy or log on the way sees it
    """
    return f"{page}#{code}"


def shown_session(cookies: Iterable[str], *, tls: bool) -> str | None:
    """The session's id in the `Cookie` headers of a request; None: there is none, or none that can be one.

    tls  whether the request came by https; the other way's cookie does not count
    """
    name = SECURE_NAME if tls else PLAIN_NAME
    pairs = (pair.strip().partition("=") for header in cookies for pair in header.split(";"))
    shown = {value for key, _, value in pairs if key == name and is_secret(value)}
    # Two different ones: somebody else has planted one, and nobody can tell which.
    return shown.pop() if len(shown) == 1 else None


def cookie(secret: str, *, tls: bool) -> str:
    """`Set-Cookie` for a new session, or for none any more if `secret` is empty.

    SameSite=Lax, not Strict: a link to the backend in a chat opens it signed in. What other sites can send
    along with the cookie then is a link that somebody follows, which only reads; whatever changes something
    has to come from a page of the backend itself (`check_own_page`).
    """
    name = f"{SECURE_NAME if tls else PLAIN_NAME}={secret}"
    lasts_s = LASTS_S if secret else 0
    return f"{name}; Path=/; Max-Age={lasts_s}; HttpOnly; SameSite=Lax{'; Secure' if tls else ''}"


def check_own_page(method: str | None, headers: Mapping[bytes, bytes], *, tls: bool) -> None:
    """Raise Forbidden for what only a page of the backend may ask for by a cookie, unless one does.

    Browsers send cookies by themselves, so a change or a WebSocket (`method` None) needs a word of the
    browser about the page that asks: `serving.posture` has refused those of other hosts already.

    tls  whether the request came by https; a page that came by plain HTTP, which anybody on the way can have
         written, is another one then, although its host is the same
    """
    origin = headers.get(b"origin")
    known = headers.get(b"sec-fetch-site") == b"same-origin" if origin is None else True
    if method in READING or (known and not (tls and origin and origin.startswith(b"http:"))):
        return
    raise Forbidden(
        "a session changes something only when a page of this backend asks for it",
        field="Origin",
        hint="programs show a token: `Authorization: Bearer <token>`",
    )
