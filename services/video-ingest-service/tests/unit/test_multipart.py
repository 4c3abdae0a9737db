"""Forms with one file, in pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from teleop_schema.errors import BackendError, BadInput, BodyTooLarge, WrongMediaType
from teleop_video_ingest.errors import BadForm
from teleop_video_ingest.uploads import multipart
from teleop_video_ingest.uploads.multipart import FormReader

TYPE = "multipart/form-data; boundary=XX"


def part(name: str, content: bytes, *, filename: str | None = None, headers: bytes = b"") -> bytes:
    named = f'; filename="{filename}"'.encode() if filename else b""
    return (
        b'--XX\r\nContent-Disposition: form-data; name="' + name.encode() + b'"' + named + b"\r\n" + headers
        + b"\r\n" + content + b"\r\n"
    )  # fmt: skip


END = b"--XX--\r\n"


def read(body: bytes, *, step: int = 1 << 16, allowed: tuple[str, ...] = ("robot_id", "path")):
    form = FormReader(TYPE, allowed)
    content = b""
    for start in range(0, len(body), step):
        content += b"".join(form.feed(body[start : start + step]))
    form.end()
    return content, form.fields


@given(st.binary(max_size=300), st.integers(1, 50), st.booleans())
def test_any_pieces_any_order(content, step, file_first):
    """However the body is cut, and whatever comes first, the file and the fields come out."""
    file, field = part("file", content, filename="x.mp4"), part("robot_id", b"robot_A")
    body = (file + field if file_first else field + file) + END
    assert read(body, step=step) == (content, {"robot_id": "robot_A"})


@given(st.lists(st.sampled_from([b"\r\n--X", b"\r\n--XX", b"--", b"\r", b"\n", b"a"]), max_size=30))
def test_content_that_looks_like_boundaries(pieces):
    """Bytes that almost end the file belong to it."""
    content = b"".join(pieces).replace(b"\r\n--XX", b"\r\n--XY")
    assert read(part("file", content, filename="x") + END, step=7)[0] == content


@given(st.binary(max_size=400))
def test_any_bytes_are_taken_or_refused(body):
    """Whatever bytes come, they are a form, or an error of the input."""
    refused = None
    try:
        read(b"--XX\r\n" + body)
    except BackendError as error:
        refused = error
    assert refused is None or refused.status in (400, 413, 422)


@pytest.mark.parametrize("content_type", ["", "application/json", "multipart/mixed; boundary=XX"])
def test_other_types(content_type):
    """What is no form is told as such."""
    with pytest.raises(WrongMediaType):
        FormReader(content_type, ())


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary=" + "x" * 71])
def test_bad_boundaries(content_type):
    """A form without a boundary, or with an endless one, is refused."""
    with pytest.raises(BadForm):
        FormReader(content_type, ())


@pytest.mark.parametrize(
    "body",
    [
        b"no boundary at all",
        part("file", b"x", filename="x"),
        part("file", b"x", filename="x")[:-3],
        part("file", b"x", headers=b"X-Long: " + b"x" * 5000 + b"\r\n") + END,
        part("file", b"x", headers=b"".join(b"X-%d: y\r\n" % n for n in range(100))) + END,
        b"--XX\r\nContent-Type: text/plain\r\n\r\nx\r\n" + END,
        part("", b"x") + END,
    ],
    ids=["no form", "no end", "torn", "huge header", "many headers", "no disposition", "no name"],
)
def test_broken_forms(body):
    """A form that is torn, or has parts that are none, is refused."""
    with pytest.raises(BadForm):
        read(body)


def test_a_hundred_thousand_parts():
    """A form of endless parts is refused after a few, with the limit."""
    form = FormReader(TYPE, ("robot_id",))
    with pytest.raises((BadForm, BadInput)):
        form.feed(part("robot_id", b"x") * 100_000)
    form = FormReader(TYPE, [f"f{n}" for n in range(100)])
    with pytest.raises(BadForm) as refused:
        form.feed(b"".join(part(f"f{n}", b"x") for n in range(100)))
    assert refused.value.limit == multipart.MAX_PARTS


def test_huge_field():
    """Fields may only be so long, together; the file may be longer."""
    with pytest.raises(BodyTooLarge) as refused:
        read(part("path", b"x" * (multipart.MAX_FIELD_BYTES + 1)) + END)
    assert (refused.value.field, refused.value.limit) == ("path", multipart.MAX_FIELD_BYTES)
    assert (
        len(read(part("file", b"x" * (multipart.MAX_FIELD_BYTES + 1)) + END)[0]) > multipart.MAX_FIELD_BYTES
    )


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (part("robot_id", b"a") + END, "file"),
        (part("file", b"a") + part("file", b"b") + END, "file"),
        (part("robot", b"a") + part("file", b"b") + END, "robot"),
        (part("path", b"a") + part("path", b"b") + part("file", b"b") + END, "path"),
        (part("path", b"\xff") + part("file", b"b") + END, "path"),
    ],
    ids=["no file", "two files", "unknown field", "field twice", "no UTF-8"],
)
def test_wrong_fields_are_named(body, field):
    """A field that is missing, unknown, doubled or no text is named."""
    with pytest.raises(BadInput) as refused:
        read(body)
    assert refused.value.field == field
