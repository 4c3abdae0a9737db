"""What reads bytes that anybody can have sent, or that a torn disk can have left.

Each target takes bytes and does with them what the product does. It may refuse them in the way that its
callers know, and nothing else; what it accepts must hold together.
"""

import contextlib
import io
from collections.abc import Callable
from datetime import UTC, datetime

import google_crc32c
import pyarrow as pa
from lerobot_robot_backend.spool import record
from starlette.requests import Request
from teleop_dataset.errors import BrokenFile
from teleop_dataset.mp4 import check_edits, read_header, read_movie, video_track
from teleop_dataset.mp4_samples import read_samples
from teleop_dataset.parquet_tail import read_tail
from teleop_dataset.parquet_thrift import read_footer
from teleop_dataset.repair.tables import leaves_of
from teleop_runtime.access.codes import read_code
from teleop_runtime.access.sessions import shown_session
from teleop_runtime.access.tokens import kind_of
from teleop_runtime.proxies import read_forwarded, read_proxies
from teleop_runtime.serving.operations import read_query
from teleop_runtime.serving.ranges import names_etag, wanted_range
from teleop_schema.decoding import DECODE_ERRORS
from teleop_schema.errors import BackendError, BadInput
from teleop_schema.identifiers import (
    check_dataset_name,
    check_file_path,
    check_robot_id,
    local_path,
    stored_path,
)
from teleop_schema.limits import Limits
from teleop_schema.messages import CRC, decode_batch, decode_robot_control, decode_server_control
from teleop_schema.plain import decode_plain
from teleop_telemetry.frames.columns import encode_rows, quarantine
from teleop_telemetry.reading.session_endpoints import SessionQuery
from teleop_telemetry.receiving.session import AcknowledgedSession, StoreFrames
from teleop_video_ingest.uploads import tus
from teleop_video_ingest.uploads.multipart import FormReader

LIMITS = Limits()
STATE_WIDTH, ACTION_WIDTH = 2, 1
VECTORS_BYTES = 4 * (STATE_WIDTH + ACTION_WIDTH)
SIZE_BYTES = 1000
LEAVES = leaves_of(
    pa.schema([("action", pa.list_(pa.field("element", pa.float32()), 2)), ("note", pa.string())]),
    {"action": 2, "note": 1},
)
PROXIES = read_proxies("10.0.0.0/8")


def robot_message(data: bytes) -> None:
    with contextlib.suppress(BackendError):
        decode_robot_control(data.decode(errors="replace"))


def server_message(data: bytes) -> None:
    with contextlib.suppress(BackendError):
        decode_server_control(data)


def batch(data: bytes) -> None:
    """From the wire to the bytes that PostgreSQL gets."""
    with contextlib.suppress(BackendError):
        decoded = decode_batch(CRC.pack(google_crc32c.value(data)) + data, LIMITS)
        session = AcknowledgedSession(next_frame=0, state_width=STATE_WIDTH, action_width=ACTION_WIDTH)
        taken = session.receive(decoded)
        if isinstance(taken, StoreFrames):
            [block] = quarantine([taken.block])
            assert block.rows + sum(gap.end - gap.first for gap in block.gaps) == decoded.count
            if block.rows:
                encode_rows([1], [block])


def plain(data: bytes) -> None:
    with contextlib.suppress(BackendError):
        decode_plain(data.decode(errors="replace"))


def spool_record(data: bytes) -> None:
    """A record whose checksum is right, as a wrong one is refused anyway."""
    whole = record.CRC.pack(google_crc32c.value(data)) + data
    with contextlib.suppress(record.DamagedRecord, *DECODE_ERRORS):
        found = record.decode_record(whole)
        if found is not None and found.kind == record.RecordKind.EVENT:
            record.decode_event(found)
        elif found is not None and found.kind == record.RecordKind.FRAME:
            extra = record.decode_beyond(found, VECTORS_BYTES).extra
            assert isinstance(extra, dict)


def parquet_tail(data: bytes) -> None:
    tail = read_tail(b"PAR1" + data, LEAVES)
    assert tail.end <= len(data) + 4


def parquet_footer(data: bytes) -> None:
    file = b"PAR1" + data + len(data).to_bytes(4, "little") + b"PAR1"
    with contextlib.suppress(BrokenFile):
        read_footer(io.BytesIO(file), len(file))


def mp4(data: bytes) -> None:
    with contextlib.suppress(BrokenFile):
        movie = read_movie(io.BytesIO(data), len(data))
        assert 0 <= movie.whole_frames <= movie.frames


def mp4_samples(data: bytes) -> None:
    with contextlib.suppress(BrokenFile):
        header, _ = read_header(io.BytesIO(data), len(data))
        check_edits(video_track(header))
        samples = read_samples(header, len(data))
        if samples is not None:
            assert int((samples.offset + samples.size).max()) <= len(data)


def tus_headers(data: bytes) -> None:
    """`name: value`, a line each."""
    pairs = (line.partition(":") for line in data.decode("latin-1").split("\n"))
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    for read in (tus.check_version, tus.read_creation, tus.read_patch, tus.read_checksum):
        with contextlib.suppress(BackendError):
            read(headers)


def form(data: bytes) -> None:
    """In two parts, cut where the first byte says."""
    with contextlib.suppress(BackendError):
        reader = FormReader("multipart/form-data; boundary=b", ("robot_id", "path"))
        cut = data[0] if data else 0
        came = reader.feed(data[1 : 1 + cut]) + reader.feed(data[1 + cut :])
        reader.end()
        assert sum(map(len, came)) < len(data)


def form_type(data: bytes) -> None:
    with contextlib.suppress(BackendError):
        FormReader(data.decode("latin-1"), ())


def names(data: bytes) -> None:
    """A name on a robot's disk is stored under one path, and comes back under its own."""
    name = data.decode(errors="surrogateescape")
    for check in (check_robot_id, check_dataset_name):
        with contextlib.suppress(BackendError):
            assert ".." not in check(name).split("/")
    with contextlib.suppress(BadInput):
        assert ".." not in local_path(check_file_path(name)).split("/")
    with contextlib.suppress(BadInput):
        stored = stored_path(name)
        assert (local_path(stored), ".." in stored.split("/")) == (name, False)


def headers(data: bytes) -> None:
    text = data.decode("latin-1")
    with contextlib.suppress(BackendError):
        found = wanted_range(text, SIZE_BYTES)
        assert found is None or 0 <= found[0] < found[1] <= SIZE_BYTES
    names_etag(text, '"etag"')
    shown_session([text], tls=True)
    read_code(text)
    kind_of(text)
    for name in ("forwarded", "x-forwarded-for", "x-forwarded-prefix"):
        told = read_forwarded({name: [text]}, PROXIES)
        assert told.prefix == "" or told.prefix.startswith("/")


def query(data: bytes) -> None:
    request = Request({"type": "http", "query_string": data, "headers": []})
    with contextlib.suppress(BackendError):
        wanted = read_query(request, SessionQuery)
        for each in (getattr(wanted, name) for name in wanted.__struct_fields__):
            assert not isinstance(each, datetime) or each.astimezone(UTC)


TARGETS: dict[str, Callable[[bytes], None]] = {
    each.__name__: each
    for each in (
        robot_message,
        server_message,
        batch,
        plain,
        spool_record,
        parquet_tail,
        parquet_footer,
        mp4,
        mp4_samples,
        tus_headers,
        form,
        form_type,
        names,
        headers,
        query,
    )
}
