"""Bytes from a disk or a network can be anything: whoever decodes them expects every error of the decoder."""

import ast
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]
# Their own: one names the errors, the other tells them apart.
AT_HOME = ("decoding.py", "plain.py")


def test_bytes_that_are_not_utf_8_are_expected_too():
    """msgspec raises UnicodeDecodeError for those, RecursionError for what nests, neither a MsgspecError."""
    found = [
        f"{path.relative_to(REPOSITORY)}:{node.lineno}"
        for top in ("libs", "services", "deploy")
        for path in (REPOSITORY / top).glob("*/src/**/*.py")
        if path.name not in AT_HOME
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("MsgspecError", "DecodeError")
    ]
    assert not found, "catch DECODE_ERRORS of teleop_schema.decoding"
