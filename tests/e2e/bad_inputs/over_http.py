"""What may be asked over HTTP, with the answer: status, error, field."""

import gzip
from base64 import b64encode

from bad_inputs.wire import request

JSON = "Content-Type: application/json"
TUS = "Tus-Resumable: 1.0.0"
PATCH = (TUS, "Content-Type: application/offset+octet-stream")
LONE, NUL = "\\ud800", "\\u0000"


def export(body: str | bytes) -> bytes:
    """A request to make an export."""
    return request("POST", "/exports", body.encode() if isinstance(body, str) else body, JSON)


def upload(length: str | None = "1", **fields: str) -> bytes:
    """A request to begin an upload."""
    about = {"kind": "dataset", "robot_id": "attacker", "dataset": "me/ds", "path": "meta/a.txt", **fields}
    pairs = ",".join(f"{name} {b64encode(value.encode()).decode()}" for name, value in about.items())
    size = [f"Upload-Length: {length}"] if length is not None else []
    return request("POST", "/files", b"", TUS, *size, f"Upload-Metadata: {pairs}", length="0")


def form(boundary: str, body: bytes) -> bytes:
    """A form with a file."""
    return request("POST", "/upload/sync", body, f"Content-Type: multipart/form-data{boundary}")


PART = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'

HEADS = {
    "a TLS hello": (b"\x16\x03\x01\x02\x00\r\n\r\n", "400"),
    "HTTP/9.9": (b"GET / HTTP/9.9\r\n\r\n", "400"),
    "no host": (b"GET /sessions HTTP/1.1\r\n\r\n", "403 forbidden Host"),
    "another host": (request("GET", "/sessions", host="evil.example"), "403 forbidden Host"),
    "two lengths": (request("POST", "/exports", b"{}", "Content-Length: 3"), "400"),
    "a length and chunks": (request("POST", "/exports", b"{}", "Transfer-Encoding: chunked"), "400"),
    "a length below zero": (request("POST", "/exports", b"{}", length="-2"), "400"),
    "a length that is no number": (request("POST", "/exports", b"{}", length="x"), "400"),
    "a chunk that is none": (
        request("POST", "/exports", b"", "Transfer-Encoding: chunked") + b"zz\r\n",
        "400",
    ),
    "NUL in a header": (request("GET", "/sessions", b"", "X: a\0b"), "400"),
    "a folded header": (request("GET", "/sessions", b"", "X: a\r\n b"), "400"),
    "an unknown method": (request("ZAP", "/sessions"), "400"),
    "TRACE": (request("TRACE", "/sessions"), "405 method_not_allowed"),
    "CONNECT": (request("CONNECT", "evil.example:443"), "400"),
    "a page of another site": (
        request("POST", "/exports", b"{}", JSON, "Origin: http://evil.example"),
        "403 forbidden Origin",
    ),
    "a picture in a page of another site": (
        request("GET", "/sessions", b"", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"),
        "403 forbidden Sec-Fetch-Site",
    ),
    "GET of a WebSocket": (request("GET", "/ws/log/attacker"), "426 upgrade_required"),
}

ADDRESSES = {
    "/" + "x" * 10_000: "414 target_too_long",
    "/sessions?cursor=" + "x" * 10_000: "414 target_too_long",
    "/sessions?limit=0": "422 bad_input limit",
    "/sessions?limit=1000000000": "422 bad_input limit",
    "/sessions?limit=x": "422 bad_input limit",
    "/sessions?limit=1&limit=2": "422 bad_input limit",
    "/sessions?cursor=abc": "422 bad_input cursor",
    "/sessions?cursor=%00": "422 bad_input cursor",
    "/sessions?zap=1": "422 bad_input zap",
    "/sessions?since=yesterday": "422 bad_input since",
    "/sessions?since=9999-99-99": "422 bad_input since",
    "/sessions/0": "404 session_not_found session_id",
    "/sessions/-1": "404 not_found session_id",
    "/sessions/99999999999999999999": "404 session_not_found session_id",
    "/sessions/1e3": "404 not_found session_id",
    "/sessions/1/frames?from=-1": "422 bad_input from",
    "/sessions/1/frames?format=exe": "422 bad_input format",
    "/exports/999999999999999999999": "404 export_not_found export_id",
    "/exports/1/files/../../etc/passwd": "404 export_not_found export_id",
    "/exports/1/files/%2e%2e/%2e%2e/etc/passwd": "404 export_not_found export_id",
    "/videos/1": "404 video_not_found video_id",
    "/datasets/../x": "422 bad_robot_id robot_id",
    "/datasets/%2e%2e/x": "422 bad_robot_id robot_id",
    "/datasets/a/b/files/../../x": "422 bad_input path",
    "/datasets/a/b/files/%2e%2e%2fx": "422 bad_input path",
    "/datasets/a/b/files/a%00b": "422 bad_input path",
    "/datasets/a/b/files/" + "x" * 256: "422 bad_input path",
    "/datasets/a/" + "x/" * 200: "422 bad_input dataset",
    "/datasets/attacker/CON/files/x": "422 bad_input dataset",
    "/datasets/attacker/b/files/x.": "422 bad_input path",
    "/datasets/attacker/b/files/a%E2%80%AEb": "422 bad_input path",
    "/robots/..%2f/x": "404 not_found",
    "/docs/../../etc/passwd": "404 not_found",
    "//sessions": "404 not_found",
    "/sessions;a=b": "404 not_found",
    "/sessions%00": "404 not_found",
    "/sessions\\..": "404 not_found",
}

BODIES = {
    "nothing": (request("POST", "/exports", b"", JSON, length="0"), "422 bad_input"),
    "null": (export("null"), "422 bad_input"),
    "a list": (export("[]"), "422 bad_input"),
    "nothing in it": (export("{}"), "422 bad_input repo_id"),
    "nested without end": (export("[" * 100_000), "422 bad_input"),
    "2 MB": (export('{"a":"' + "x" * 2_000_000 + '"}'), "413 body_too_large"),
    "an unknown field": (export('{"session_ids":[1],"repo_id":"a/b","zap":1}'), "422 bad_input zap"),
    "no such session": (
        export('{"session_ids":[999999],"repo_id":"a/b"}'),
        "404 session_not_found session_ids",
    ),
    "a session below zero": (export('{"session_ids":[-1],"repo_id":"a/b"}'), "422 bad_input session_ids[0]"),
    "a session of 30 digits": (
        export('{"session_ids":[' + "9" * 30 + '],"repo_id":"a/b"}'),
        "422 bad_input session_ids[0]",
    ),
    "100,000 sessions": (
        export('{"session_ids":[' + ",".join(map(str, range(1, 100_000))) + '],"repo_id":"a/b"}'),
        "422 bad_input session_ids",
    ),
    "a rate of 0": (export('{"session_ids":[1],"repo_id":"a/b","fps":0}'), "422 bad_input fps"),
    "a rate below 0": (export('{"session_ids":[1],"repo_id":"a/b","fps":-1}'), "422 bad_input fps"),
    "a rate of a billion": (export('{"session_ids":[1],"repo_id":"a/b","fps":1e9}'), "422 bad_input fps"),
    "a folder above": (export('{"session_ids":[1],"repo_id":"../x"}'), "422 bad_input repo_id"),
    "a folder of the system": (export('{"session_ids":[1],"repo_id":"/etc/x"}'), "422 bad_input repo_id"),
    "NUL in a name": (export(f'{{"session_ids":[1],"repo_id":"a/b{NUL}"}}'), "422 bad_input repo_id"),
    "half a character": (export(f'{{"session_ids":[1],"repo_id":"a/b{LONE}"}}'), "422 bad_input"),
    "a byte order mark": (export('\ufeff{"session_ids":[1],"repo_id":"a/b"}'), "422 bad_input"),
    "UTF-16": (export('{"session_ids":[1]}'.encode("utf-16")), "422 bad_input"),
    "something behind it": (export('{"session_ids":[1],"repo_id":"a/b"} x'), "422 bad_input"),
    "compressed": (
        request("POST", "/exports", gzip.compress(b"{}"), JSON, "Content-Encoding: gzip"),
        "422 bad_input",
    ),
    "XML": (
        request("POST", "/exports", b"<a/>", "Content-Type: text/xml"),
        "415 wrong_media_type Content-Type",
    ),
}

UPLOADS = {
    "no length": (upload(length=None), "400 bad_tus_header Upload-Length"),
    "a length below zero": (upload(length="-1"), "400 bad_tus_header Upload-Length"),
    "a length that is no number": (upload(length="x"), "400 bad_tus_header Upload-Length"),
    "an exabyte": (upload(length="1000000000000000000"), "400 bad_tus_header Upload-Length"),
    "an unknown kind": (upload(kind="zap"), "422 bad_input kind"),
    "another robot's folder": (upload(robot_id="../x"), "422 bad_robot_id robot_id"),
    "a folder above": (upload(path="../../etc/passwd"), "422 bad_input path"),
    "an absolute path": (upload(path="/etc/passwd"), "422 bad_input path"),
    "a drive": (upload(path="C:\\x"), "422 bad_input path"),
    "another machine": (upload(path="\\\\evil\\x"), "422 bad_input path"),
    "NUL in a path": (upload(path="a\0b"), "422 bad_input path"),
    "a new line in a path": (upload(path="a\nb"), "422 bad_input path"),
    "an escape in a path": (upload(path="a\x1bb"), "422 bad_input path"),
    "a long part": (upload(path="x" * 256), "422 bad_input path"),
    "many parts": (upload(path="x/" * 40 + "x"), "422 bad_input path"),
    "a device": (upload(path="CON"), "422 bad_input path"),
    "letters that run backwards": (upload(path="a\u202eb"), "422 bad_input path"),
    "letters in two parts": (upload(path="e\u0301"), "422 bad_input path"),
    "metadata that is none": (
        request("POST", "/files", b"", TUS, "Upload-Length: 1", "Upload-Metadata: path !!!", length="0"),
        "400 bad_tus_header Upload-Metadata",
    ),
    "an unknown upload": (
        request("PATCH", "/files/00000000-0000-0000-0000-000000000001", b"x", *PATCH, "Upload-Offset: 0"),
        "404 unknown_upload upload_id",
    ),
    "no upload": (
        request("PATCH", "/files/x", b"x", *PATCH, "Upload-Offset: 0"),
        "404 unknown_upload upload_id",
    ),
    "another tus": (
        request("POST", "/files", b"", "Tus-Resumable: 0.2.2", "Upload-Length: 1", length="0"),
        "412 bad_tus_version Tus-Resumable",
    ),
    "a form without a boundary": (form("", b"x"), "400 bad_form Content-Type"),
    "a form that ends early": (form("; boundary=b", b"--b\r\nContent-Disposition: form"), "400 bad_form"),
    "a form without a file": (
        form("; boundary=b", PART % (b"robot_id", b"", b"attacker") + b"--b--\r\n"),
        "422 bad_input file",
    ),
    "a form with 10,000 fields": (
        form("; boundary=b", b"".join(PART % (b"f%d" % n, b"", b"x") for n in range(10_000)) + b"--b--\r\n"),
        "422 bad_input f0",
    ),
    "a form with a field of 1 MB": (
        form("; boundary=b", PART % (b"robot_id", b"", b"x" * 1_000_000) + b"--b--\r\n"),
        "422 bad_input file",
    ),
}
