"""The HTTP API as Markdown, from the OpenAPI document."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

METHODS = ("get", "post", "put", "patch", "delete", "head", "options")
# An answer that only refers to one in `components`, or a schema that does, is this many steps away at most.
MAX_STEPS = 4


def described(document: Path) -> str:
    """Each address: what it does, its parameters, its body and its answers."""
    api = json.loads(document.read_text("utf-8"))
    return "\n".join(_lines(api))


def _lines(api: dict[str, Any]) -> Iterator[str]:
    for path, item in api["paths"].items():
        for method in METHODS:
            if method in item:
                yield f"## `{method.upper()} {path}`\n"
                yield from _operation(api, item[method], item.get("parameters", []))


def _operation(api: dict[str, Any], operation: dict[str, Any], shared: list[dict[str, Any]]) -> Iterator[str]:
    told = operation.get("description") or operation.get("summary")
    if told:
        yield f"{told}\n"
    parameters = [_found(api, each) for each in [*shared, *operation.get("parameters", [])]]
    if parameters:
        yield "| parameter | in | value | |\n|---|---|---|---|"
        for each in parameters:
            value = _cell(api, each.get("schema", {}))
            meaning = _meaning(each, each.get("required", False))
            yield f"| `{each['name']}` | {each['in']} | {value} | {meaning} |"
        yield ""
    body = _found(api, operation.get("requestBody", {}))
    for kind, content in body.get("content", {}).items():
        yield f"Body: `{kind}`, {_cell(api, content.get('schema', {}))}\n"
        yield from _fields(api, content.get("schema", {}))
    yield "| status | answer | |\n|---|---|---|"
    for status, answer in operation["responses"].items():
        answer = _found(api, answer)
        kinds = [
            f"`{kind}` {_cell(api, content.get('schema', {}))}".strip()
            for kind, content in answer.get("content", {}).items()
        ]
        yield f"| {status} | {', '.join(kinds)} | {_line(answer.get('description', ''))} |"
    yield ""


def _fields(api: dict[str, Any], schema: dict[str, Any]) -> Iterator[str]:
    """A table of an object's fields; nothing for other schemas."""
    schema = _found(api, schema)
    properties = schema.get("properties", {})
    if not properties:
        return
    yield "| field | value | |\n|---|---|---|"
    for name, each in properties.items():
        meaning = _meaning(_found(api, each), name in schema.get("required", []))
        yield f"| `{name}` | {_cell(api, each)} | {meaning} |"
    yield ""


def _meaning(thing: dict[str, Any], needed: bool) -> str:
    return _line(("needed. " if needed else "") + thing.get("description", ""))


def _found(api: dict[str, Any], thing: dict[str, Any]) -> dict[str, Any]:
    """What a reference leads to."""
    for _ in range(MAX_STEPS):
        if "$ref" not in thing:
            break
        found: Any = api
        for key in thing["$ref"].removeprefix("#/").split("/"):
            found = found[key.replace("~1", "/").replace("~0", "~")]
        thing = found
    return thing


def _cell(api: dict[str, Any], schema: dict[str, Any]) -> str:
    """A schema in a few words, for a cell of a table."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        found = _found(api, schema)
        return _cell(api, found) if "enum" in found else f"{found.get('title', name)}"
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            words = " or ".join(_cell(api, each) for each in schema[choice])
            return words + _default(schema)
    kind = schema.get("type", "")
    kind = " or ".join(kind) if isinstance(kind, list) else kind
    if kind == "array":
        return f"array of {_cell(api, schema.get('items', {})) or 'values'}" + _default(schema)
    limits = [
        f"{sign} {schema[name]}"
        for name, sign in (
            ("minimum", "≥"),
            ("maximum", "≤"),
            ("minLength", "length ≥"),
            ("maxLength", "length ≤"),
        )
        if name in schema
    ]
    said = schema.get("format") or kind
    return " ".join(filter(None, [said, ", ".join(limits)])) + _default(schema)


def _default(schema: dict[str, Any]) -> str:
    default = schema.get("default")
    return "" if default is None else f"; default: `{json.dumps(default)}`"


def _line(text: str) -> str:
    """In one line, so that it fits into a cell."""
    return " ".join(text.split()).replace("|", "\\|")
