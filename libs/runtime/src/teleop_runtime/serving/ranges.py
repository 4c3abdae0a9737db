"""The Range header of RFC 9110, with one range; pure."""

import re

from teleop_schema.errors import BadRange

_BYTES = re.compile(r"bytes=\s*(\d{0,19})-(\d{0,19})\s*", re.ASCII | re.IGNORECASE)


def wanted_range(header: str | None, size_bytes: int) -> tuple[int, int] | None:
    """[start, end) of a file that `header` requests; None: all of it.

    Several ranges, other units, and anything that is not a range are answered with the whole file, as the RFC
    allows. Raises BadRange if the range begins after the file's end.
    """
    match = _BYTES.fullmatch(header) if header is not None else None
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        start, last = size_bytes - min(int(match[2]), size_bytes), size_bytes - 1
    else:
        start, last = int(match[1]), int(match[2]) if match[2] else size_bytes - 1
        if match[2] and last < start:
            return None
    if start >= size_bytes:
        raise BadRange(
            f"the file has {size_bytes} bytes, so nothing starts at byte {start}",
            field="Range",
            limit=size_bytes,
        )
    return start, min(last, size_bytes - 1) + 1


def names_etag(header: str, etag: str) -> bool:
    """Whether If-None-Match names `etag`."""
    return header.strip() == "*" or etag in [part.strip().removeprefix("W/") for part in header.split(",")]
