"""tus 1.0: headers in, decisions out."""

import base64
import hashlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from teleop_schema.errors import BackendError, BodyTooLarge, WrongMediaType
from teleop_schema.files import MAX_FILE_BYTES
from teleop_video_ingest.errors import BadTusHeader, BadTusVersion, UnknownChecksum
from teleop_video_ingest.uploads import tus

BODY = {"content-type": tus.BODY_TYPE}
HEADERS = st.dictionaries(
    st.sampled_from(
        [
            "upload-length",
            "upload-defer-length",
            "upload-offset",
            "upload-checksum",
            "upload-metadata",
            "upload-concat",
            "content-type",
            "content-length",
            "content-encoding",
            "tus-resumable",
        ]
    ),
    st.one_of(st.text(max_size=40), st.sampled_from(["1", "0", "1.0.0", tus.BODY_TYPE, "sha1 AAAA"])),
)


def encoded(text: str | bytes) -> str:
    return base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


@given(HEADERS)
def test_any_headers_are_taken_or_refused(headers):
    """Whatever headers come, they are understood, or refused with an error that names one of them."""
    for read in (tus.check_version, tus.read_creation, tus.read_patch):
        refused = None
        try:
            read(headers)
        except BackendError as error:
            refused = error
        assert refused is None or (refused.status in (400, 412, 413, 415) and refused.field)


@given(
    st.dictionaries(
        st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=","), min_size=1),
        st.text(),
        max_size=10,
    )
)
def test_metadata_comes_back(metadata):
    """Every metadata that a client can encode is decoded to the same."""
    told = ",".join(f"{key} {encoded(value)}" for key, value in metadata.items())
    assert tus.read_metadata(told) == metadata


def test_metadata_without_value():
    """A key may stand alone, and spaces around pairs do not matter."""
    assert tus.read_metadata("is_final , kind dmlkZW8=") == {"is_final": "", "kind": "video"}


@pytest.mark.parametrize(
    "told", ["kind ***", "kind dmlkZW8", "a YQ==,a Yg==", "a YQ==,", f"a {encoded(b'\xff')}"]
)
def test_bad_metadata(told):
    """Metadata that is no base64, no UTF-8, or says a thing twice, is refused."""
    with pytest.raises(BadTusHeader) as refused:
        tus.read_metadata(told)
    assert refused.value.field == "Upload-Metadata"


def test_too_much_metadata():
    """Metadata has a limit in bytes and one in keys, and both are told."""
    for told in ("a " + "A" * tus.MAX_METADATA_BYTES, ",".join(f"k{n} YQ==" for n in range(100))):
        with pytest.raises(BadTusHeader) as refused:
            tus.read_metadata(told)
        assert refused.value.limit in (tus.MAX_METADATA_BYTES, tus.MAX_METADATA_KEYS)


def test_creation():
    """A creation has a length, or none yet, and may bring bytes."""
    assert tus.read_creation({"upload-length": "7"}) == tus.Creation(7, {}, False)
    assert tus.read_creation({"upload-defer-length": "1"}) == tus.Creation(None, {}, False)
    assert tus.read_creation({"upload-length": "7", "content-length": "0"}).has_body is False
    assert tus.read_creation({"upload-length": "7", "content-length": "3", **BODY}).has_body is True


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"upload-length": "1", "upload-defer-length": "1"},
        {"upload-defer-length": "2"},
        {"upload-length": "-1"},
        {"upload-length": "1e3"},
        {"upload-length": "٣"},
        {"upload-length": "9" * 19},
        {"upload-length": "1", "upload-concat": "partial"},
    ],
)
def test_bad_creations(headers):
    """Contradictions, and lengths that are none, are refused by name."""
    with pytest.raises(BadTusHeader) as refused:
        tus.read_creation(headers)
    assert (refused.value.field or "").startswith("Upload-")


def test_too_long():
    """A length beyond that of any file is refused, with the limit."""
    for read, headers in (
        (tus.read_creation, {}),
        (tus.read_patch, {"upload-offset": "0", **BODY}),
    ):
        with pytest.raises(BodyTooLarge) as refused:
            read({"upload-length": str(MAX_FILE_BYTES + 1), **headers})
        assert refused.value.limit == MAX_FILE_BYTES


@pytest.mark.parametrize("offset", [None, "", "-1", "+1", "1.0", "0x10", " 1", "٣"])
def test_bad_offsets(offset):
    """An offset that is absent or no number is refused by name."""
    headers = BODY if offset is None else {**BODY, "upload-offset": offset}
    with pytest.raises(BadTusHeader) as refused:
        tus.read_patch(headers)
    assert refused.value.field == "Upload-Offset"


@pytest.mark.parametrize(
    "headers", [{}, {"content-type": "application/json"}, {**BODY, "content-encoding": "gzip"}]
)
def test_bytes_as_they_are(headers):
    """Other media types and compressed bodies are refused before they are read."""
    with pytest.raises(WrongMediaType):
        tus.read_patch({"upload-offset": "0", **headers})


def test_checksums():
    """Of each known algorithm a checksum of its length is taken."""
    for algorithm in tus.CHECKSUM_ALGORITHMS:
        digest = hashlib.new(algorithm, b"x").digest()
        checksum = tus.read_checksum({"upload-checksum": f"{algorithm} {encoded(digest)}"})
        assert checksum is not None
        assert (checksum.algorithm, checksum.digest) == (algorithm, digest)
    assert tus.read_checksum({}) is None


@pytest.mark.parametrize(
    ("told", "error"),
    [
        ("md5 AAAA", UnknownChecksum),
        ("", UnknownChecksum),
        ("sha1", BadTusHeader),
        ("sha1 !!!", BadTusHeader),
        (f"sha1 {encoded(b'short')}", BadTusHeader),
        (f"sha256 {encoded(b'x' * 20)}", BadTusHeader),
    ],
)
def test_bad_checksums(told, error):
    """Unknown algorithms and digests that are none are told apart."""
    with pytest.raises(error) as refused:
        tus.read_checksum({"upload-checksum": told})
    assert refused.value.field == "Upload-Checksum"


@pytest.mark.parametrize("version", [None, "", "0.2.2", "1.0.1"])
def test_other_versions(version):
    """Only tus 1.0.0 is spoken."""
    with pytest.raises(BadTusVersion):
        tus.check_version({} if version is None else {"tus-resumable": version})
    tus.check_version({"tus-resumable": "1.0.0"})


def test_progress():
    """Progress is told with an HTTP date in GMT."""
    headers = tus.progress(5, datetime(2026, 11, 23, 5, 53, tzinfo=UTC))
    assert headers == {"Upload-Offset": "5", "Upload-Expires": "Mon, 23 Nov 2026 05:53:00 GMT"}
