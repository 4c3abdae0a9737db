"""What a robot's connection may be sent, with the answer: close code or status, error, field."""

import struct

import msgspec

from bad_inputs.wire import BINARY, CLOSE, PING, TEXT, batch, frame, handshake, hello, text

MIB = 1024 * 1024
# The two characters that a JSON escape of a lone surrogate, and of NUL, begin with, kept out of this file.
LONE, NUL = "\\ud800", "\\u0000"


def pack(value: object) -> bytes:
    """MessagePack."""
    return msgspec.msgpack.encode(value)


HANDSHAKES = {
    "a folder above": (handshake("/ws/log/.."), "422 bad_robot_id robot_id"),
    "the same, escaped": (handshake("/ws/log/%2e%2e"), "422 bad_robot_id robot_id"),
    "no name": (handshake("/ws/log/"), "422 bad_robot_id robot_id"),
    "a long name": (handshake("/ws/log/" + "a" * 65), "422 bad_robot_id robot_id"),
    "NUL in a name": (handshake("/ws/log/a%00b"), "422 bad_robot_id robot_id"),
    "a letter that looks like another": (handshake("/ws/log/r%D0%BEbot"), "422 bad_robot_id robot_id"),
    "a slash in a name": (handshake("/ws/log/a%2Fb"), "422 bad_robot_id robot_id"),
    "bytes that are no text": (handshake("/ws/log/%ff%fe"), "422 bad_robot_id robot_id"),
    "a very long address": (handshake("/ws/log/" + "a" * 9000), "414 target_too_long"),
    "bytes outside ASCII": (handshake("/ws/log/\u00e9"), "400"),
    "a rate of 0": (handshake("/ws/log/attacker?fps=0", None), "422 bad_input fps"),
    "no rate": (handshake("/ws/log/attacker?fps=nan", None), "422 bad_input fps"),
    "two rates": (handshake("/ws/log/attacker?fps=1&fps=2", None), "422 bad_input fps"),
    "an unknown parameter": (handshake("/ws/log/attacker?x=1", None), "422 bad_input x"),
    "an old WebSocket": (handshake(version="12"), "400"),
    "an unknown subprotocol": (
        handshake(subprotocol="lerobot.telemetry.v9"),
        "400 unknown_subprotocol Sec-WebSocket-Protocol",
    ),
    "another site's page": (
        handshake("/ws/log/attacker", None, "Origin: http://evil.example"),
        "403 forbidden Origin",
    ),
    "two tokens": (
        handshake("/ws/log/attacker", None, "Authorization: Bearer a", "Authorization: Bearer b"),
        "401 unauthorized",
    ),
    "an empty token": (handshake("/ws/log/attacker", None, "Authorization: Bearer "), "401 unauthorized"),
    "a token that is none": (
        handshake("/ws/log/attacker", None, "Authorization: Bearer x"),
        "401 unauthorized",
    ),
}

FRAMES = {
    "a byte too many": ([frame(BINARY, bytes(MIB + 1))], "1009"),
    "fragments without end": (
        [frame(BINARY if n == 0 else 0, bytes(60_000), last=False) for n in range(20)],
        "1009",
    ),
    "a length of 2**64 - 1": ([b"\x82\xff" + b"\xff" * 8 + bytes(4)], "1009"),
    "text that is not UTF-8": ([text(b"\xff\xfe")], "1007"),
    "no mask": ([frame(TEXT, b"{}", masked=False)], "1002"),
    "reserved bits": ([frame(TEXT, b"{}", reserved=4)], "1002"),
    "a reserved opcode": ([frame(5, b"")], "1002"),
    "a long ping": ([frame(PING, bytes(200))], "1002"),
    "a continuation of nothing": ([frame(0, b"x")], "1002"),
    "a wrong close code": ([frame(CLOSE, struct.pack(">H", 999))], "1002"),
    "half a close code": ([frame(CLOSE, b"x")], "1002"),
    "a wrong CRC": ([batch(crc=1)], "1007 bad_crc crc32c"),
    "no batch": ([frame(BINARY, b"")], "1007 bad_message batch"),
    "3 bytes": ([frame(BINARY, b"abc")], "1007 bad_message batch"),
    "no frames": ([batch(count=0)], "1007 bad_message count"),
    "2**32 - 1 frames": ([batch(count=2**32 - 1)], "1007 bad_message count"),
    "fewer than no frames": ([batch(count=-1)], "1007 bad_message count"),
    "2**63 frames": ([batch(count=2**63)], "1007 bad_message count"),
    "before the first": ([batch(first=-1)], "1007 bad_message first"),
    "the last of all": ([batch(first=2**64 - 1)], "1007 bad_message first"),
    "a value too few": ([batch(state=bytes(12))], "1007 bad_message state"),
    "half a value": ([batch(state=bytes(15))], "1007 bad_message state"),
    "no values": ([batch(state=None)], "1007 bad_message state"),
    "an unknown field": ([batch(zzz=1)], "1007 bad_message zzz"),
    "a field of another kind": ([batch(first="0")], "1007 bad_message first"),
    "not a map": ([batch(pack([1, 2]))], "1007 bad_message"),
    "nested without end": ([batch(b"\x91" * 100_000 + b"\xc0")], "1007 bad_message"),
    "a list of 4 billion": ([batch(b"\xdd\xff\xff\xff\xff")], "1007 bad_message"),
    "4 GB of values": ([batch(b"\x81\xa5state\xc6\xff\xff\xff\xff")], "1007 bad_message"),
    "large other values": ([batch(extra={0: {"a": "x" * 70_000}})], "1007 bad_message extra[0]"),
    "other values of no frame": ([batch(extra={9: {"a": 1}})], "1007 bad_message extra"),
    "NUL in other values": ([batch(extra={0: {"a": "\0"}})], "1007 bad_message extra[0]"),
    "an unknown event": (
        [batch(events=[{"kind": "zap", "frame_index": 0}])],
        "1007 bad_message events[0].kind",
    ),
    "NUL in a note": (
        [batch(events=[{"kind": "mark", "frame_index": 0, "note": "a\0b"}])],
        "1007 bad_message events[0].note",
    ),
    "a long note": (
        [batch(events=[{"kind": "mark", "frame_index": 0, "note": "a" * 5000}])],
        "1007 bad_message events[0].note",
    ),
    "an event far away": (
        [batch(events=[{"kind": "mark", "frame_index": 2**63 - 1, "note": "a"}])],
        "1007 bad_message events[0].frame_index",
    ),
    "a gap with frames": ([batch(gap="x")], "1007 bad_message timestamps"),
    "an undeclared column": ([batch(columns={0: b"xx"})], "1007 bad_message columns[0]"),
    "an observation of the future": (
        [batch(observation_ages_us={0: -5})],
        "1007 bad_message observation_ages_us[...]",
    ),
    "frames after a hole": ([batch(first=10)], "nack"),
    "times of 1969": ([batch(timestamps=struct.pack("<2q", -(10**12), 5 - 10**12))], "ack"),
    "times beyond the year 9999": ([batch(timestamps=struct.pack("<2q", 2**62, 2**62))], "ack"),
    "times that go back": ([batch(timestamps=struct.pack("<2q", 10**15 + 1, 10**15))], "ack"),
    "25,000 events": ([batch(events=[{"kind": "mark", "frame_index": 0, "note": "a"}] * 25_000)], "ack"),
    "an end before the frames": ([text('{"type":"end","frames":200}')], "nack"),
    "an end below zero": ([text('{"type":"end","frames":-1}')], "1007 bad_message frames"),
    "an end for no reason": ([text('{"type":"end","frames":0,"reason":"x"}')], "1007 bad_message reason"),
    "a second hello": ([text(hello())], "1002 protocol_violation type"),
}

HELLOS = {
    "nothing": ("", "1007 bad_message"),
    "half of it": ('{"type":"he', "1007 bad_message"),
    "something behind it": (hello() + " x", "1007 bad_message"),
    "a byte order mark": ("\ufeff" + hello(), "1007 bad_message"),
    "nested without end": ("[" * 200_000, "1007 bad_message"),
    "a list": ("[]", "1007 bad_message"),
    "null": ("null", "1007 bad_message"),
    "no type": ("{}", "1007 bad_message type"),
    "an unknown type": ('{"type":"zap"}', "1007 bad_message type"),
    "a number of 5,000 digits": (hello().replace("60.0", "9" * 5000), "1007 bad_message session.fps"),
    "a rate as text": (hello({"fps": "60"}), "1007 bad_message session.fps"),
    "a rate of null": (hello({"fps": None}), "1007 bad_message session.fps"),
    "a rate of 0": (hello({"fps": 0}), "1007 bad_message session.fps"),
    "a rate that is not a number": (hello().replace("60.0", "NaN"), "1007 bad_message"),
    "an endless rate": (hello().replace("60.0", "1e400"), "1007 bad_message session.fps"),
    "a stream without a number": (hello(stream="x"), "1007 bad_message stream"),
    "an unknown field": (hello(zap=1), "1007 bad_message zap"),
    "an unknown field of the session": (hello({"zap": 1}), "1007 bad_message session.zap"),
    "a name twice": (hello({"state_names": ["a", "a"]}), "1007 bad_message session.state_names"),
    "2,000 names": (
        hello({"state_names": [str(n) for n in range(2000)]}),
        "1007 bad_message session.state_names",
    ),
    "a name with NUL": (hello({"state_names": ["a\0"]}), "1007 bad_message session.state_names[0]"),
    "a long name": (hello({"state_names": ["a" * 200]}), "1007 bad_message session.state_names[0]"),
    "an empty name": (hello({"state_names": [""]}), "1007 bad_message session.state_names[0]"),
    "half a character": (hello().replace('"r"', f'"r{LONE}"'), "1007 bad_message"),
    "NUL in a text": (hello().replace('"r"', f'"r{NUL}"'), "1007 bad_message session.robot_type"),
    "a camera without lines": (
        hello({"cameras": {"x": {"height": 0, "width": 5}}}),
        "1007 bad_message session.cameras[...].height",
    ),
    "a stream that began in the year 9999": (
        hello({"started_at_us": 2**62}),
        "1007 bad_message session.started_at_us",
    ),
    "a first frame below zero": (hello(first_unacked=-1), "1007 bad_message first_unacked"),
    "a first frame of 2**63": (hello(first_unacked=2**63), "1007 bad_message first_unacked"),
    "a short secret": (hello(secret="x"), "1007 bad_message secret"),
    "a secret with a new line": (hello(secret="a" * 30 + "\n"), "1007 bad_message secret"),
    "an end": ('{"type":"end","frames":0}', "1002 protocol_violation type"),
}

PLAIN = {
    "nothing": ("", "bad_message"),
    "half of it": ('{"observation":{"a', "bad_message"),
    "a number that is none": ('{"observation":{"a":NaN}}', "ack"),
    "a value as text": ('{"observation":{"a":"1"}}', "bad_message observation.a"),
    "no observation": ('{"action":{"a":1}}', "bad_message observation"),
    "null": ('{"observation":null}', "bad_message observation"),
    "no values": ('{"observation":{}}', "bad_message observation"),
    "a list as a value": ('{"observation":{"a":[1]}}', "bad_message observation.a"),
    "an unknown field": ('{"observation":{"a":1},"zap":1}', "bad_message zap"),
    "a time far away": ('{"observation":{"a":1},"timestamp":1e300}', "bad_message timestamp"),
    "a time as text": ('{"observation":{"a":1},"timestamp":"now"}', "bad_message timestamp"),
    "an observation of the future": (
        '{"observation":{"a":1},"observation_age_us":-1}',
        "bad_message observation_age_us",
    ),
    "5,000 frames": ("[" + ",".join(['{"observation":{"a":1}}'] * 5000) + "]", "bad_message frames"),
    "no frames": ("[]", "bad_message frames"),
    "NUL in a name": (f'{{"observation":{{"a{NUL}":1}}}}', "bad_message observation"),
    "half a character": (f'{{"observation":{{"a{LONE}":1}}}}', "bad_message"),
    "nested without end": ('{"observation":{"a":' + "[" * 50_000, "bad_message observation[...]"),
}
