"""Names of a request's fields, as the backend writes them, as flags of `export-to-dataset`. Pure.

The backend marks every field in a text for people with backticks: `cameras` names one, `"fps": 22` sets one,
as it would stand in the request's JSON. A text of an older backend has no marks, and stays as it is.
"""

import json
import re
from typing import Any

# A field of the request, its flag. Those whose flag has the same name are not listed.
_NAMED = {
    "session_ids": "--session_id",
    "session_tags": "--session_tag",
    "episodes": "--episode",
    "include_capture_time": "--no_capture_time",
    "include_labels": "--no_labels",
    "private": "--public",
}
# They set it to false.
_NEGATED = frozenset({"include_capture_time", "include_labels", "private"})
# Fields of the request whose own fields have flags.
_GROUPS = ("filter", "push_to_hub")
_MARKED = re.compile(r"`(?:\"(?P<set>[\w.]+)\": (?P<value>[^`]+)|(?P<name>[\w.]+))`")


def flag_of(field: str) -> str | None:
    """The flag that gives the field, or what the field is in, as of `filter.tags[0]` or `split.train`; None
    for the filter itself, which is all of its flags."""
    if field == "filter":
        return None
    group, _, within = field.partition(".")
    name = re.split(r"[.\[]", within if within and group in _GROUPS else field)[0]
    return _NAMED.get(name, f"--{name}")


def in_flags(text: str) -> str:
    """The text with flags in place of the fields that the backend marked."""
    return _MARKED.sub(_written, text)


def told(detail: str, field: str | None) -> str:
    """What is wrong, and with which flag."""
    flag = flag_of(field) if field else None
    return in_flags(detail) + (f" ({flag})" if flag else "")


def _written(found: re.Match[str]) -> str:
    name = found["set"] or found["name"]
    flag = flag_of(name) or name
    if found["name"]:
        return flag
    try:
        value = json.loads(found["value"])
    except ValueError:
        return found[0]
    if isinstance(value, bool):
        return flag if value != (name in _NEGATED) else f"no {flag}"
    return " ".join([flag, *_words(value)]) if value != [] else f"{flag} without a value"


def _words(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [f"{name}={each}" for name, each in value.items()]
    return [str(each) for each in value] if isinstance(value, list) else [str(value)]
