"""Where a message that can't be decoded is wrong, and what would be right."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import inspect

# What msgspec raises over input; RecursionError is its answer to a depth bomb.
DECODE_ERRORS = (msgspec.MsgspecError, UnicodeError, RecursionError)

_PATH = re.compile(r" - at `(?:key` in `)?\$?\.?([^`]*)`$")
_FIELD = re.compile(r"field `([^`]+)`")


def field_of(error: Exception) -> str | None:
    """Path of the field that a decoding error speaks of, "events[0].kind"; None if it speaks of none."""
    text = str(error)
    path = _PATH.search(text)
    field = _FIELD.search(text)
    names = [match[1] for match in (path, field) if match and match[1]]
    return ".".join(names) or None


def hint_of(error: Exception, kind: Any) -> str | None:
    """What could stand there in a message of that kind, "one of split, refuse"; None if it is no choice."""
    text = str(error)
    path = _PATH.search(text)
    places = list(_places(inspect.type_info(kind), path[1] if path else ""))
    if text.startswith("Invalid enum value"):
        known = [str(value) for place in places for value in _values(place)]
    elif "unknown field" in text:
        structs = (place for place in places if isinstance(place, inspect.StructType))
        known = [field.encode_name for struct in structs for field in struct.fields]
    else:
        return None
    return f"one of {', '.join(known)}" if known else None


def _places(place: inspect.Type, path: str) -> Iterator[inspect.Type]:
    """The types at "filter.tags[0]" of one type, each alternative; none where the path can't be followed."""
    if isinstance(place, inspect.UnionType):
        for alternative in place.types:
            yield from _places(alternative, path)
    elif not path:
        yield place
    elif isinstance(place, inspect.CollectionType) and path.startswith("["):
        yield from _places(place.item_type, path.partition("]")[2].removeprefix("."))
    elif isinstance(place, inspect.StructType):
        name = re.split(r"[.\[]", path, maxsplit=1)[0]
        for field in place.fields:
            if field.encode_name == name:
                yield from _places(field.type, path.removeprefix(name).removeprefix("."))


def _values(place: inspect.Type) -> list[Any]:
    if isinstance(place, inspect.LiteralType):
        return list(place.values)
    return [member.value for member in place.cls] if isinstance(place, inspect.EnumType) else []
