"""Finds tokens in text where none belongs: addresses, logs."""

import re

# Enough to tell tokens apart, and too little to guess one: it leaves more than 220 bits.
SHOWN_LENGTH = 6
# A token, or most of one; names of robots are rarely like this.
_LIKE_TOKEN = re.compile(
    rf"(lrb_[a-z]+_[0-9A-Za-z]{{{SHOWN_LENGTH}}})[0-9A-Za-z]{{14,}}(_[0-9A-Za-z]*)?", re.ASCII
)


def holds_token(text: str) -> bool:
    """Whether a text has something like a token in it."""
    return "lrb_" in text and _LIKE_TOKEN.search(text) is not None


def redact(text: str) -> str:
    """The text, with no more than the beginnings of the tokens in it."""
    return _LIKE_TOKEN.sub(r"\1…", text) if "lrb_" in text else text
