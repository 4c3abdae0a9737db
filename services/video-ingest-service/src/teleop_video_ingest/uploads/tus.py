"""The tus protocol, version 1.0 (https://tus.io/protocols/resumable-upload): headers in, decisions out."""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from typing import NamedTuple

from teleop_schema.errors import BodyTooLarge, WrongMediaType
from teleop_schema.files import MAX_FILE_BYTES

from teleop_video_ingest.errors import BadTusHeader, BadTusVersion, UnknownChecksum

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,creation-defer-length,checksum,expiration,termination"
CHECKSUM_ALGORITHMS = ("sha1", "sha256")
BODY_TYPE = "application/offset+octet-stream"
# As long as the server accepts a request's headers.
MAX_METADATA_BYTES = 64 * 1024
# About a dozen are used; clients add their own.
MAX_METADATA_KEYS = 64
# More digits than any length has, because int() of endless digits would take forever.
MAX_DIGITS = 18

# By their names in lower case.
type Headers = Mapping[str, str]


@dataclass(frozen=True)
class Creation:
    """A new upload.

    length     bytes that will be sent; None if the client does not know yet
    metadata   its description of the file
    has_body   whether the first bytes come with the request
    """

    length: int | None
    metadata: Mapping[str, str]
    has_body: bool


@dataclass(frozen=True)
class Patch:
    """More bytes of an upload.

    length    of the whole upload, if the client tells it only now
    checksum  what these bytes must hash to
    """

    offset: int
    length: int | None
    checksum: "UploadChecksum | None"


class UploadChecksum(NamedTuple):
    """Algorithm as hashlib names it, and the digest."""

    algorithm: str
    digest: bytes


def check_version(headers: Headers) -> None:
    """Raise BadTusVersion unless the client speaks tus 1.0."""
    if headers.get("tus-resumable") != VERSION:
        raise BadTusVersion(field="Tus-Resumable")


def read_creation(headers: Headers) -> Creation:
    """The upload that a POST to the collection requests."""
    if "upload-concat" in headers:
        raise BadTusHeader("concatenation is not supported", field="Upload-Concat")
    length = _number(headers, "Upload-Length")
    deferred = headers.get("upload-defer-length")
    if deferred not in (None, "1"):
        raise BadTusHeader("Upload-Defer-Length must be 1 or absent", field="Upload-Defer-Length")
    if (length is None) == (deferred is None):
        raise BadTusHeader(
            "an upload must state its length, or defer it",
            field="Upload-Length",
            hint="either Upload-Length: <bytes>, or Upload-Defer-Length: 1",
        )
    check_length(length)
    has_body = "content-type" in headers and headers.get("content-length") != "0"
    if has_body:
        _check_body_type(headers)
    return Creation(length, read_metadata(headers.get("upload-metadata", "")), has_body)


def read_patch(headers: Headers) -> Patch:
    """The content of a PATCH."""
    _check_body_type(headers)
    offset = _number(headers, "Upload-Offset")
    if offset is None:
        raise BadTusHeader("Upload-Offset is missing: where do these bytes belong?", field="Upload-Offset")
    length = _number(headers, "Upload-Length")
    check_length(length)
    return Patch(offset, length, read_checksum(headers))


def check_length(length: int | None) -> None:
    """Raise BodyTooLarge for an upload longer than any file may be."""
    if length is not None and length > MAX_FILE_BYTES:
        raise BodyTooLarge(
            f"a file may have at most {MAX_FILE_BYTES} bytes", field="Upload-Length", limit=MAX_FILE_BYTES
        )


def read_checksum(headers: Headers) -> UploadChecksum | None:
    """The required hash of this request's bytes; None if the client does not say."""
    told = headers.get("upload-checksum")
    if told is None:
        return None
    algorithm, _, encoded = told.strip().partition(" ")
    if algorithm not in CHECKSUM_ALGORITHMS:
        raise UnknownChecksum(
            f"{algorithm[:50]!r} is not a supported checksum algorithm",
            field="Upload-Checksum",
            hint="one of " + ", ".join(CHECKSUM_ALGORITHMS),
        )
    digest = _decode(encoded.strip())
    if digest is None or len(digest) != hashlib.new(algorithm, usedforsecurity=False).digest_size:
        raise BadTusHeader(
            f"the checksum is not a valid {algorithm} digest in base64", field="Upload-Checksum"
        )
    return UploadChecksum(algorithm, digest)


def read_metadata(told: str) -> dict[str, str]:
    """Reads `Upload-Metadata`: "key base64,key base64,…"; a key may have no value."""
    if len(told) > MAX_METADATA_BYTES:
        raise BadTusHeader(
            "the metadata is too long",
            field="Upload-Metadata",
            limit=MAX_METADATA_BYTES,
            hint="announce the file with POST /files/plan, which accepts longer bodies",
        )
    metadata: dict[str, str] = {}
    for pair in told.split(",") if told.strip() else ():
        key, _, encoded = pair.strip().partition(" ")
        value = _decode(encoded.strip())
        if not key or value is None:
            raise BadTusHeader("metadata is `key base64,key base64,…`", field="Upload-Metadata")
        if key in metadata:
            raise BadTusHeader(f"{key[:50]!r} is given twice", field="Upload-Metadata")
        if len(metadata) == MAX_METADATA_KEYS:
            raise BadTusHeader("too many keys", field="Upload-Metadata", limit=MAX_METADATA_KEYS)
        try:
            metadata[key] = value.decode()
        except UnicodeDecodeError:
            raise BadTusHeader(f"{key[:50]!r} is not UTF-8", field="Upload-Metadata") from None
    return metadata


def capabilities() -> dict[str, str]:
    """Headers that say what a client may use."""
    return {
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Max-Size": str(MAX_FILE_BYTES),
        "Tus-Checksum-Algorithm": ",".join(CHECKSUM_ALGORITHMS),
    }


def progress(offset: int, expires_at: datetime) -> dict[str, str]:
    """Headers that say how far an upload is, and until when it can continue."""
    return {"Upload-Offset": str(offset), "Upload-Expires": format_datetime(expires_at, usegmt=True)}


def _check_body_type(headers: Headers) -> None:
    if headers.get("content-type", "").partition(";")[0].strip().lower() != BODY_TYPE:
        raise WrongMediaType(
            "the body of an upload must be plain bytes",
            field="Content-Type",
            hint=f"Content-Type: {BODY_TYPE}",
        )
    if headers.get("content-encoding", "identity") != "identity":
        raise WrongMediaType("the body of an upload must not be compressed", field="Content-Encoding")


def _number(headers: Headers, name: str) -> int | None:
    told = headers.get(name.lower())
    if told is None:
        return None
    if not (told.isascii() and told.isdigit() and len(told) <= MAX_DIGITS):
        raise BadTusHeader(f"{name} {told[:50]!r} is not a number of bytes", field=name)
    return int(told)


def _decode(encoded: str) -> bytes | None:
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
