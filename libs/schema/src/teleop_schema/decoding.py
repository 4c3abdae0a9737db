"""Finds out where a message that can't be decoded is wrong, and what would be right."""

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import inspect

# Errors of msgspec for bad input; RecursionError is its answer to input that nests too deeply.
DECODE_ERRORS = (msgspec.MsgspecError, UnicodeError, RecursionError)

_PATH = re.compile(r" - at `(?:key` in `)?\$?\.?([^`]*)`$")
_FIELD = re.compile(r"field `([^`]+)`")

_SOME_TIME = "a time like 2026-11-23T05:53:00Z"
# msgspec's names of types, and what people call them.
_TYPES = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "datetime": _SOME_TIME,
    "uuid": "a UUID",
}
# How a Struct's own check names its field.
_OWN_NAME = re.compile(r"(?::| in) field `[^`]*`$")
# msgspec's texts without the place, and ours with the place as {0}.
_SENTENCES = (
    (re.compile(r"Object missing required field `.*`"), "{0} is missing"),
    (re.compile(r"Object contains unknown field `.*`", re.DOTALL), "{0} is unknown"),
    (
        re.compile(r"Expected `datetime.* with a timezone component"),
        f"{{0}} must be {_SOME_TIME}",
    ),
    (re.compile(r"Expected (.*), got (.*)"), "{0} must be {1}, not {2}"),
    (re.compile(r"Expected (.*)"), "{0} must be {1}"),
    (re.compile(r"Invalid enum value (.*)", re.DOTALL), "{0} can't be {1}"),
    (re.compile(r"Invalid RFC3339 encoded datetime"), f"{{0}} must be {_SOME_TIME}"),
    (re.compile(r"Invalid UUID"), "{0} must be a UUID"),
    (re.compile(r"(?:Integer value|Number|Timestamp is) out of range ?"), "{0} is out of range"),
    (re.compile(r"(JSON|MessagePack data) is malformed: (.*)"), "{0} is not valid {1}: {2}"),
    (re.compile(r"Input data was truncated"), "{0} ends too early"),
)


def prepare_types() -> None:
    """Have msgspec look at every Struct that was imported; before a process has threads.

    It looks at a type when that is first used. Of two threads that use one at once for the first time, the
    second takes what the first has not finished, and SIGSEGV ends the process without a word (msgspec 0.22).
    """
    kinds = [msgspec.Struct]
    while kinds:
        for kind in kinds.pop().__subclasses__():
            kinds.append(kind)
            # What can't be decoded at all, nobody decodes.
            with suppress(TypeError, NameError):
                msgspec.json.Decoder(kind)


def field_of(error: Exception) -> str | None:
    """Path of the field that a decoding error names, "events[0].kind"; None if it names none."""
    text = str(error)
    path = _PATH.search(text)
    field = _FIELD.search(text)
    names = [match[1] for match in (path, field) if match and match[1]]
    return ".".join(names) or None


def explain(error: Exception, name: str) -> str:
    """The text of a decoding error for the field, or message, `name`: "limit must be a whole number"."""
    if isinstance(error, RecursionError):
        return f"{name} is nested too deeply"
    if isinstance(error, UnicodeError):
        return f"{name} is not UTF-8"
    text = str(error)
    place = _PATH.search(text)
    said = text[: place.start()] if place else text
    if place and "`key` in" in place[0]:
        name = f"a key of {name}"
    for pattern, sentence in _SENTENCES:
        if found := pattern.fullmatch(said):
            return sentence.format(name, *map(_in_words, found.groups()))
    return f"{name}: {_OWN_NAME.sub('', said)}"


def _in_words(types: str) -> str:
    """Names of types in backticks, replaced by what people call them."""
    return re.sub(r"`([^`]+)`", lambda found: " or ".join(map(_in_word, found[1].split(" | "))), types)


def _in_word(type_: str) -> str:
    return _TYPES.get(type_, type_)


def hint_of(error: Exception, kind: Any) -> str | None:
    """The allowed values at that place in a message, "one of split, refuse"; None if there is no choice."""
    text = str(error)
    path = _PATH.search(text)
    places = list(_places(inspect.type_info(kind), path[1] if path else ""))
    if text.startswith("Invalid enum value"):
        known = [str(value) for place in places for value in _values(place)]
    elif "unknown field" in text:
        structs = (place for place in places if isinstance(place, inspect.StructType))
        known = [field.encode_name for struct in structs for field in struct.fields]
    elif "missing required field" in text:
        structs = (place for place in places if isinstance(place, inspect.StructType))
        needed = [field.encode_name for struct in structs for field in struct.fields if field.required]
        return f"required: {', '.join(needed)}" if needed else None
    else:
        return None
    return f"one of {', '.join(known)}" if known else None


def _places(place: inspect.Type, path: str) -> Iterator[inspect.Type]:
    """The types at a path such as "filter.tags[0]" in one type; empty if the path can't be followed."""
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
