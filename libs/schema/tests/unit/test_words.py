"""Texts for terminals and logs."""

import pytest
from teleop_schema.words import shown, shown_lines


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("a joint's name, 관절 3, \u3000 and é", None),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("first\nsecond\r\tthird", r"first\nsecond\r\tthird"),
        ("gpj.\u202efdp", r"gpj.\u202efdp"),
        ("a\u2028b\u200bc\x00", r"a\u2028b\u200bc\x00"),
        ("name\udcff", r"name\udcff"),
    ],
)
def test_what_changes_what_is_seen_is_escaped(text, seen):
    """Letters and spaces of all languages stay."""
    assert shown(text) == (text if seen is None else seen)


def test_lines_stay_lines():
    """Each for itself."""
    assert shown_lines("a\nb\x1bc\n") == "a\nb\\x1bc\n"
