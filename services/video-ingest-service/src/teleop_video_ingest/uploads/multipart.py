"""Reads form fields and one file from a multipart/form-data body, in pieces as they arrive (RFC 7578)."""

from collections.abc import Collection
from typing import Literal

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from teleop_schema.errors import BadInput, BodyTooLarge, WrongMediaType

from teleop_video_ingest.errors import BadForm

FILE_FIELD = "file"
FORM_TYPE = b"multipart/form-data"
# RFC 2046.
MAX_BOUNDARY_BYTES = 70
# A form has one file and a dozen fields.
MAX_PARTS = 32
# Two are usual.
MAX_PART_HEADERS = 8
# With a path of MAX_PATH_BYTES, each byte of it escaped.
MAX_HEADER_BYTES = 4 * 1024
# Enough for the frame indexes and capture times of the longest video chunk.
MAX_FIELD_BYTES = 8 * 1024 * 1024
# A form may be longer than its file by this much.
MAX_FORM_BYTES = MAX_FIELD_BYTES + MAX_PARTS * (MAX_BOUNDARY_BYTES + MAX_PART_HEADERS * MAX_HEADER_BYTES)


class FormReader:
    """One form with one file.

    fields  what has come so far, by name

    Fields may come before the file or after it. Every method raises BadForm over a body that is no such form,
    BadInput over a field that has no place in it, BodyTooLarge over one that is too long.
    """

    def __init__(self, content_type: str, allowed: Collection[str]) -> None:
        """A form of the fields `allowed`; raises WrongMediaType if this is no form at all."""
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != FORM_TYPE:
            raise WrongMediaType(
                "send the file in a form", field="Content-Type", hint="curl … -F file=@chunk.mp4"
            )
        if not 0 < len(boundary) <= MAX_BOUNDARY_BYTES:
            raise BadForm(
                f"a boundary must have 1 to {MAX_BOUNDARY_BYTES} characters",
                field="Content-Type",
                limit=MAX_BOUNDARY_BYTES,
            )
        self.fields: dict[str, str] = {}
        self._allowed = allowed
        self._behind_bytes = len(boundary) + len("\r\n----\r\n")
        self._parts = 0
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._field = ""
        self._field_value = bytearray()
        self._field_bytes = 0
        self._file: Literal["awaited", "open", "whole"] = "awaited"
        self._file_bytes: list[bytes] = []
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._header_name_came,
                "on_header_value": self._header_value_came,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._data_came,
                "on_part_end": self._end_part,
                "on_end": self._end_form,
            },
            max_header_count=MAX_PART_HEADERS,
            max_header_size=MAX_HEADER_BYTES,
        )

    def feed(self, data: bytes) -> list[bytes]:
        """Read the next bytes of the body; returns the file's bytes among them."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise BadForm(f"the form can't be understood: {error}") from None
        found, self._file_bytes = self._file_bytes, []
        return found

    def end(self) -> None:
        """End the body; raises BadForm unless it was a whole form, with a file."""
        if not self._ended:
            raise BadForm("the form ends before its last boundary")
        if self._file != "whole":
            raise BadInput("the file is missing", field=FILE_FIELD, hint="curl … -F file=@chunk.mp4")

    @property
    def file_begun(self) -> bool:
        """Whether the file's bytes have begun."""
        return self._file != "awaited"

    @property
    def behind_bytes(self) -> int:
        """Of a form whose last part is the file: what is behind it."""
        return self._behind_bytes

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise BadForm(f"a form may have at most {MAX_PARTS} parts", limit=MAX_PARTS)
        self._headers = {}

    def _header_name_came(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _header_value_came(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        self._headers[bytes(self._header_name).lower()] = bytes(self._header_value)
        self._header_name, self._header_value = bytearray(), bytearray()

    def _end_headers(self) -> None:
        kind, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"name", b"").decode(errors="replace")
        if kind != b"form-data" or not name:
            raise BadForm("a part of the form has no name", field="Content-Disposition")
        if name == FILE_FIELD:
            if self._file != "awaited":
                raise BadInput("a form may have only one file", field=FILE_FIELD)
            self._file = "open"
        elif name not in self._allowed:
            raise BadInput(
                f"{name[:50]!r} is not a field of this form",
                field=name,
                hint="allowed: " + ", ".join(sorted({FILE_FIELD, *self._allowed})),
            )
        elif name in self.fields:
            raise BadInput(f"{name} is given twice", field=name)
        self._field = name

    def _data_came(self, data: bytes, start: int, end: int) -> None:
        if self._field == FILE_FIELD:
            self._file_bytes.append(data[start:end])
            return
        self._field_bytes += end - start
        if self._field_bytes > MAX_FIELD_BYTES:
            raise BodyTooLarge(
                f"the fields of a form may have at most {MAX_FIELD_BYTES} bytes",
                field=self._field,
                limit=MAX_FIELD_BYTES,
            )
        self._field_value += data[start:end]

    def _end_part(self) -> None:
        if self._field == FILE_FIELD:
            self._file = "whole"
            return
        try:
            self.fields[self._field] = self._field_value.decode()
        except UnicodeDecodeError:
            raise BadInput(f"{self._field} is not UTF-8", field=self._field) from None
        self._field_value = bytearray()

    def _end_form(self) -> None:
        self._ended = True
