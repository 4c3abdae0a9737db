"""JSON Schemas of msgspec types, as generators of clients and validators of OpenAPI understand them."""

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import msgspec
from msgspec import inspect as types

from teleop_runtime.serving.openapi.common_fields import COMMON_FIELDS

REF = "#/components/schemas/"
# A line of a docstring that describes fields: "name, name   text", or the names alone with the text below.
_FIELD_LINE = re.compile(r"([A-Za-z_]\w*(?:, [A-Za-z_]\w*)*)(?:\s{2,}(\S.*))?")
# Python's `$` also matches before a line break at the end; that of JSON Schema's patterns never does.
_ONLY_FOR_PYTHON = r"(?!\n)"


class Schemas:
    """The schemas of all types of one document.

    read        types of what clients send
    forms       those of these that are sent as forms, whose fields can be left out, but not be null
    sent        types of what the server sends: its fields are never left out because they have a default
    components  those of Structs, by their names
    """

    def __init__(self, read: Sequence[Any], sent: Sequence[Any], forms: Sequence[Any] = ()) -> None:
        kinds = [*read, *sent]
        schemas, components = msgspec.json.schema_components(kinds, ref_template=REF + "{name}")
        self._schema_of = {id(kind): _plain(schema) for kind, schema in zip(kinds, schemas, strict=True)}
        classes = {kind.__name__: kind for kind in _structs(kinds)}
        received = {kind.__name__ for kind in _structs(read)}
        self.components = {}
        for name, schema in sorted(components.items()):
            described = _described(_plain(schema), classes[name])
            if name not in received:
                described["required"] = _always_sent(classes[name])
            if classes[name] in forms:
                fields = described["properties"].items()
                described["properties"] = {field: without_null(told) for field, told in fields}
            self.components[name] = described

    def of(self, kind: Any) -> dict[str, Any]:
        """Schema of a type that was given at the beginning, with references to the components."""
        return dict(self._schema_of[id(kind)])


def fields_of(kind: type[msgspec.Struct]) -> Iterator[tuple[str, bool, dict[str, Any]]]:
    """(name, whether it is required, schema) of each field of a Struct whose fields are no Structs."""
    _, components = msgspec.json.schema_components([kind], ref_template=REF + "{name}")
    schema = _described(_plain(components[kind.__name__]), kind)
    for name, field in schema["properties"].items():
        yield name, name in schema.get("required", ()), field


def without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a parameter, which can be left out, but not be null."""
    if "anyOf" not in schema:
        return schema
    alternatives = [each for each in schema["anyOf"] if each.get("type") != "null"]
    rest = {name: value for name, value in schema.items() if name != "anyOf"}
    return {**alternatives[0], **rest} if len(alternatives) == 1 else {**rest, "anyOf": alternatives}


def field_texts(kind: type) -> tuple[str, dict[str, str]]:
    """A Struct's docstring, apart: the text about the whole, and those about single fields.

    Fields that a parent describes have the parent's text, unless the class has one of its own.
    """
    inherited: dict[str, str] = {}
    for parent in reversed(kind.__mro__[1:]):
        if issubclass(parent, msgspec.Struct) and parent is not msgspec.Struct:
            inherited |= field_texts(parent)[1]
    fields = {name: field.encode_name for field in types_of(kind) for name in (field.name, field.encode_name)}
    prose: list[str] = []
    texts: dict[str, list[str]] = {}
    current: list[str] = []
    for line in inspect.cleandoc(kind.__dict__.get("__doc__") or "").splitlines():
        found = _FIELD_LINE.fullmatch(line)
        names = found[1].split(", ") if found else []
        if found and all(name in fields for name in names):
            current = [found[2]] if found[2] else []
            texts |= {fields[name]: current for name in names}
        elif line.startswith(" ") and texts:
            current.append(line.strip())
        else:
            prose.append(line)
    return "\n".join(prose).strip(), inherited | {name: " ".join(lines) for name, lines in texts.items()}


def types_of(kind: type) -> tuple[msgspec.structs.FieldInfo, ...]:
    """The fields of a Struct."""
    return msgspec.structs.fields(cast(Any, kind))


def _structs(kinds: Sequence[Any]) -> Iterator[type]:
    """Every Struct in these types."""
    seen: set[type] = set()
    waiting: list[Any] = list(types.multi_type_info(kinds))
    while waiting:
        found = waiting.pop()
        if isinstance(found, types.StructType):
            if found.cls in seen:
                continue
            seen.add(found.cls)
            yield found.cls
        for name in getattr(found, "__struct_fields__", ()):
            value = getattr(found, name)
            waiting += value if isinstance(value, tuple) else [value]


def _always_sent(kind: type) -> list[str]:
    """Fields that every encoded Struct has; its tag is one of them."""
    config = cast(Any, kind).__struct_config__
    tag = [config.tag_field] if config.tag_field else []
    return tag + [
        field.encode_name
        for field in types_of(kind)
        if field.required or not (config.omit_defaults or field.default is msgspec.UNSET)
    ]


def _described(schema: dict[str, Any], kind: type) -> dict[str, Any]:
    """The schema of a Struct with what its docstring says, each part in its place."""
    prose, texts = field_texts(kind)
    texts = COMMON_FIELDS | texts
    properties = {
        name: field if "description" in field or name not in texts else {**field, "description": texts[name]}
        for name, field in schema.get("properties", {}).items()
    }
    return {**schema, "description": prose, "properties": properties}


def _plain(schema: Any) -> Any:
    """The same schema in words that every generator knows.

    Pairs are lists of two, enumerations have a type, and null is an alternative of its own. Integers have 64
    bits: in languages with a choice, 32 would be taken. What can be null is so if it is left out.
    """
    if isinstance(schema, list):
        return [_plain(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    plain = {
        name: value if name in ("default", "examples", "enum", "required") else _plain(value)
        for name, value in schema.items()
        if (name, value) != ("default", None)
    }
    if "prefixItems" in plain:
        plain = _as_list(plain)
    if "anyOf" in plain:
        plain = _as_alternatives(plain)
    if "enum" in plain and "type" not in plain:
        plain = _as_choice(plain)
    if plain.get("type") == "integer":
        plain["format"] = "int64"
    elif plain.get("type") == "number":
        plain["format"] = "double"
    if isinstance(plain.get("pattern"), str):
        plain["pattern"] = plain["pattern"].replace(_ONLY_FOR_PYTHON, "")
    return plain


def _as_list(pair: dict[str, Any]) -> dict[str, Any]:
    """A list of a fixed length, all of whose items are of one kind, as those of all our tuples are."""
    items = pair.pop("prefixItems")
    if any(item != items[0] for item in items):
        raise ValueError(f"a tuple of several types can't be described: {pair}")
    return {**pair, "items": items[0], "minItems": len(items), "maxItems": len(items)}


def _as_choice(choice: dict[str, Any]) -> dict[str, Any]:
    values = [value for value in choice.pop("enum") if value is not None]
    typed = {"type": "string" if all(isinstance(value, str) for value in values) else "integer"}
    return {**choice, **typed, "enum": values}


def _as_alternatives(schema: dict[str, Any]) -> dict[str, Any]:
    """What is said about the one alternative to null is said about the whole."""
    known = [each for each in schema["anyOf"] if each.get("type") != "null"]
    if len(known) != 1 or len(schema["anyOf"]) == 1:
        return schema
    said = {name: known[0].pop(name) for name in ("description", "examples") if name in known[0]}
    return said | schema
