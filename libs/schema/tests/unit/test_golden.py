"""The golden messages: what any client, in any language, must send and understand."""

import json
import struct
from importlib.resources import files
from typing import get_args, get_type_hints

import msgspec
import pytest
from teleop_schema import messages
from teleop_schema.limits import Limits
from teleop_schema.messages import Batch
from teleop_schema.plain import decode_plain

GOLDEN = {
    path.name.removesuffix(".json"): json.loads(path.read_text())
    for path in files("teleop_schema").joinpath("golden").iterdir()
    if path.name.endswith(".json")
}
CONTROLS = ["hello", "end", "welcome", "ack", "nack", "ended", "drain", "error"]
BATCHES = ["batch", "batch_columns", "batch_events", "batch_gap", "batch_texts"]


def test_every_kind_of_message_has_one():
    """A message kind without a golden file would be a secret of this implementation."""
    kinds = {
        kind.__struct_config__.tag
        for kind in (*messages.RobotMessage.__args__, *messages.ServerMessage.__args__)
    }
    assert kinds == set(CONTROLS)
    assert set(GOLDEN) == {*CONTROLS, *BATCHES, "plain"}


def test_every_kind_of_event_is_in_one():
    """With all that events of its kind have."""
    told = [event for name in (*BATCHES, "end") for event in GOLDEN[name]["fields"]["events"]]
    assert {event["kind"] for event in told} == set(get_args(get_type_hints(messages.Event)["kind"]))
    assert {name for event in told for name in event} == {*messages.Event.__struct_fields__}


@pytest.mark.parametrize("name", CONTROLS)
def test_control_message_decodes_and_encodes_bit_exactly(name):
    """A control message's text gives the fields, and they give the same text again."""
    golden = GOLDEN[name]
    decode = {
        "robot": messages.decode_robot_control,
        "server": messages.decode_server_control,
    }[golden["from"]]
    message = decode(golden["text"])
    assert json.loads(msgspec.json.encode(message)) == golden["fields"]
    assert messages.encode_control(message) == golden["text"]


@pytest.mark.parametrize("name", BATCHES)
def test_batch_decodes_and_encodes_bit_exactly(name):
    """A batch's bytes give the fields, and the fields give the same bytes again."""
    golden = GOLDEN[name]
    data = bytes.fromhex(golden["hex"])
    batch = messages.decode_batch(data, Limits())
    assert batch == batch_of(golden["fields"])
    assert messages.encode_batch(batch_of(golden["fields"])) == data
    assert messages.CRC.unpack_from(data)[0] == golden["crc32c"]


@pytest.mark.parametrize("name", BATCHES)
def test_map_keys_are_in_the_order_of_the_file(name):
    """A client that writes the fields as it reads them gets the same bytes; a map has no other order."""
    golden = GOLDEN[name]
    sent = msgspec.msgpack.decode(bytes.fromhex(golden["hex"])[messages.CRC.size :], strict=False)
    told = [key for key in golden["fields"] if key in sent]
    assert list(sent) == told
    for event, shown in zip(sent.get("events", []), golden["fields"]["events"], strict=True):
        assert list(event) == list(shown)


def test_plain_frames_decode():
    """What the simplest client sends means what the fields say."""
    golden = GOLDEN["plain"]
    assert msgspec.to_builtins(decode_plain(golden["text"])) == golden["fields"]


def batch_of(fields: dict) -> Batch:
    """The batch that the readable fields of a golden file describe."""
    arrays = {
        "timestamps": b"".join(struct.pack("<q", time) for time in fields.get("timestamps", [])),
        **{
            name: b"".join(struct.pack(f"<{len(row)}f", *map(float, row)) for row in fields.get(name, []))
            for name in ("state", "action")
        },
    }
    told = {
        "extra": {int(offset): content for offset, content in fields["extra"].items()},
        "observation_ages_us": {int(at): age for at, age in fields.get("observation_ages_us", {}).items()},
        "columns": {int(at): bytes.fromhex(packed) for at, packed in fields.get("columns", {}).items()},
    }
    return msgspec.convert({**fields, **arrays, **told}, Batch)
