"""Answers as gzip for clients that ask for it: JSON, CSV and pages; not kept bytes, which have ranges."""

from starlette.datastructures import Headers
from starlette.middleware.gzip import GZipResponder, IdentityResponder
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# A shorter answer fits into one packet as it is.
MINIMUM_BYTES = 1000
# Level 9 takes several times as long, for a few percent.
LEVEL = 4
# Events must arrive one by one, and Arrow, Parquet, video and archives are compressed already.
COMPRESSED = frozenset(
    {
        *("application/json", "application/problem+json", "image/svg+xml"),
        *("text/css", "text/csv", "text/html", "text/javascript", "text/plain"),
    }
)


class Compression:
    """Middleware that compresses answers, and says in `Vary` which ones depend on `Accept-Encoding`.

    Kept bytes stay as they are: a range, and an ETag that other addresses share, are those of the plain file.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        accepted = accepts_gzip(", ".join(Headers(scope=scope).getlist("accept-encoding")))
        responder = (
            GZipResponder(self.app, MINIMUM_BYTES, compresslevel=LEVEL)
            if accepted
            else IdentityResponder(self.app, MINIMUM_BYTES)
        )
        responder.send = chosen = send

        async def choose(message: Message) -> None:
            nonlocal chosen
            if message["type"] == "http.response.start" and _is_compressible(message["headers"]):
                chosen = responder.send_with_compression
            await chosen(message)

        await self.app(scope, receive, choose)


def accepts_gzip(header: str) -> bool:
    """Whether `Accept-Encoding` accepts gzip (RFC 9110, 12.5.3)."""
    qualities: dict[str, float] = {}
    for part in header.lower().split(","):
        name, _, parameter = (piece.strip() for piece in part.partition(";"))
        key, _, quality = parameter.partition("=")
        try:
            qualities[name] = float(quality) if key.strip() == "q" else 1.0
        except ValueError:
            qualities[name] = 0.0
    return qualities.get("gzip", qualities.get("x-gzip", qualities.get("*", 0.0))) > 0


def _is_compressible(raw: list[tuple[bytes, bytes]]) -> bool:
    headers = Headers(raw=raw)
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    return media_type in COMPRESSED and "accept-ranges" not in headers
