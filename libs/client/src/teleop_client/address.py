"""The backend's address as people write it."""

import argparse
from urllib.parse import urlsplit

_SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}
_DEFAULT_PORTS = {"ws": 80, "wss": 443}
# Where robots connect, below the backend's address.
_STREAM_PATH = "/ws/log"


def check_backend_url(url: str) -> str:
    """`ws://host:port[/prefix]` or `wss://…`, without a slash at the end; http and https become ws and wss.

    Raises ValueError saying what is wrong with it.
    """
    example = "expected an address like ws://localhost:8000 or http://localhost:8000"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{url!r} is not an address: {error}; {example}") from error
    if parts.scheme not in _SCHEMES or not parts.hostname or port == 0:
        raise ValueError(f"{url!r} is not the address of a backend; {example}")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(
            f"{parts.scheme}://{parts.hostname} must not have a user, query or "
            "fragment; give a token with --backend_token or LEROBOT_BACKEND_TOKEN"
        )
    if f"{_STREAM_PATH}/" in f"{parts.path}/":
        before = url.partition(_STREAM_PATH)[0]
        raise ValueError(
            f"{url!r} is too long: the backend's address is {before}, the rest is added automatically"
        )
    return f"{_SCHEMES[parts.scheme]}://{parts.netloc}{parts.path.rstrip('/')}"


def same_backend(one: str, other: str) -> bool:
    """Whether two addresses are the same, however they are written. Two names of one host are two addresses.

    Raises ValueError as `check_backend_url` does.
    """
    return _spelled_out(one) == _spelled_out(other)


def _spelled_out(url: str) -> tuple[str, str | None, int, str]:
    parts = urlsplit(check_backend_url(url))
    # `hostname` is in lower case.
    return parts.scheme, parts.hostname, parts.port or _DEFAULT_PORTS[parts.scheme], parts.path


def backend_url_option(text: str) -> str:
    """The same for an option of a command line; raises argparse's error, which names the option."""
    try:
        return check_backend_url(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
