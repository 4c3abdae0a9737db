"""An OpenAPI document as a page to read: one file of HTML that needs nothing else, not even a program.

It shows what our documents have, not all that OpenAPI knows.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any

from teleop_runtime.serving.openapi.schemas import REF

# What the browser may do with the page: show it.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
STYLE = """
:root { color-scheme: light dark; --line: #8884; --quiet: #888; }
body { margin: 0; font: 15px/1.5 system-ui, sans-serif; display: grid; grid-template-columns: 19em 1fr; }
nav { position: sticky; top: 0; height: 100vh; overflow: auto; box-sizing: border-box; padding: 1em;
      border-right: 1px solid var(--line); font-size: 13px; }
nav ul { list-style: none; margin: 0 0 1em; padding: 0; }
nav a { display: block; overflow-wrap: anywhere; }
main { padding: 1em 2em; max-width: 62em; min-width: 0; }
a { color: inherit; text-decoration-color: var(--quiet); }
code, pre { font: 13px/1.45 ui-monospace, monospace; overflow-wrap: anywhere; }
pre { border: 1px solid var(--line); padding: .6em; overflow: auto; }
section { border-top: 1px solid var(--line); margin-top: 1.5em; }
h4 { margin: 1em 0 .2em; }
table { border-collapse: collapse; width: 100%; }
td { border-bottom: 1px solid var(--line); padding: .3em .6em .3em 0; vertical-align: top; }
td:first-child { width: 22%; } td:nth-child(2) { width: 28%; }
td p, td ul { margin: 0; padding-left: 0; list-style: none; }
b.method { display: inline-block; min-width: 4.5em; }
small { color: var(--quiet); }
@media (max-width: 60em) { body { display: block; } nav { position: static; height: auto; border: 0; } }
"""


def page_of(document: Mapping[str, Any]) -> str:
    """The page: what stands on the whole, each operation by its tag, each schema."""
    info = document["info"]
    title = escape(info["title"])
    tags = {tag["name"]: tag["description"] for tag in document["tags"]}
    operations = [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    body: list[str] = [f"<h1>{title}</h1>", _prose(info["description"])]
    body.append('<p>The same for programs: <a href="openapi.json">openapi.json</a></p>')
    links: list[str] = []
    for tag, about in tags.items():
        tagged = [each for each in operations if tag in each[2]["tags"]]
        body.append(f'<h2 id="tag-{tag}">{tag}</h2>{_prose(about)}')
        body += [_operation(*each) for each in tagged]
        links.append(f'<a href="#tag-{tag}"><b>{tag}</b></a><ul>')
        links += [f"<li>{_link(*each)}</li>" for each in tagged]
        links.append("</ul>")
    body.append('<h2 id="schemas">Schemas</h2>')
    links.append('<a href="#schemas"><b>Schemas</b></a><ul>')
    for name, schema in document["components"]["schemas"].items():
        body.append(_schema(name, schema))
        links.append(f'<li><a href="#schema-{name}">{name}</a></li>')
    links.append("</ul>")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>'
        f"<body><nav>{''.join(links)}</nav><main>{''.join(body)}</main></body></html>\n"
    )


def _link(method: str, path: str, operation: Mapping[str, Any]) -> str:
    return f'<a href="#{operation["operationId"]}">{method.upper()} {escape(path)}</a>'


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    said = operation["summary"]
    if operation["description"] != said:
        said += "\n\n" + operation["description"]
    parts = [
        f'<section id="{operation["operationId"]}">',
        f'<h3><b class="method">{method.upper()}</b> <code>{escape(path)}</code></h3>',
        _prose(said),
    ]
    if parameters := operation.get("parameters"):
        rows = [
            (_name(each["name"], each["in"], each["required"]), _type(each["schema"]), _said(each))
            for each in parameters
        ]
        parts.append("<h4>Parameters</h4>" + _table(rows))
    if body := operation.get("requestBody"):
        needed = "" if body["required"] else " <small>may be left out</small>"
        parts.append(f"<h4>Body{needed}</h4>" + _content(body["content"]))
    rows = [
        (f"<b>{status}</b>", _content(answer.get("content", {})), _answer(answer))
        for status, answer in operation["responses"].items()
    ]
    parts.append("<h4>Answers</h4>" + _table(rows))
    return "".join(parts) + "</section>"


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    needed = schema.get("required", ())
    rows = [
        (_name(field, "", field in needed), _type(told), _said(told))
        for field, told in schema.get("properties", {}).items()
    ]
    return (
        f'<section id="schema-{name}"><h3>{name}</h3>{_prose(schema["description"])}{_table(rows)}</section>'
    )


def _answer(answer: Mapping[str, Any]) -> str:
    headers = "".join(
        f"<p><code>{escape(name)}</code>: {_inline(header['description'])}</p>"
        for name, header in answer.get("headers", {}).items()
    )
    return _prose(answer["description"]) + headers


def _content(content: Mapping[str, Any]) -> str:
    """Media types with their schemas; those that have the same schema stand together."""
    together: dict[str, list[str]] = {}
    for media, told in content.items():
        together.setdefault(_type(told["schema"]), []).append(f"<code>{escape(media)}</code>")
    parts = [f"<p>{', '.join(names)}: {kind}</p>" for kind, names in together.items()]
    for told in content.values():
        if "example" in told:
            parts.append(f"<pre>{escape(json.dumps(told['example'], indent=2))}</pre>")
    return "".join(parts)


def _type(schema: Mapping[str, Any]) -> str:
    """The type in words, with a link to a schema of its own."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(REF)
        return f'<a href="#schema-{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(f"<code>{escape(json.dumps(value))}</code>" for value in schema["enum"])
    kind: str = schema.get("type", "anything")
    if kind == "array":
        return f"list of {_type(schema['items'])}" + _limits(schema, "minItems", "maxItems")
    if kind == "object" and "additionalProperties" in schema and schema["additionalProperties"]:
        return f"object of {_type(schema['additionalProperties'])}"
    if schema.get("format") == "binary":
        return "bytes"
    shape = schema.get("format", schema.get("contentEncoding", ""))
    kind += f" <small>{shape}</small>" if shape and kind == "string" else ""
    kind += _limits(schema, "minimum", "maximum") + _limits(schema, "minLength", "maxLength")
    if "pattern" in schema:
        kind += f"<br><code>{escape(schema['pattern'])}</code>"
    return kind


def _limits(schema: Mapping[str, Any], least: str, most: str) -> str:
    low, high = schema.get(least), schema.get(most)
    if low is None and high is None:
        return ""
    return f" <small>{'' if low is None else low} … {'' if high is None else high}</small>"


def _name(name: str, place: str, needed: bool) -> str:
    words = [word for word in (place, "required" if needed else "") if word]
    return f"<code>{escape(name)}</code> <small>{', '.join(words)}</small>"


def _said(told: Mapping[str, Any]) -> str:
    said = _prose(told.get("description", ""))
    default = told.get("schema", told).get("default")
    if default not in (None, (), [], {}, ""):
        said += f"<p><small>default: <code>{escape(json.dumps(default))}</code></small></p>"
    example = told.get("example", next(iter(told.get("examples", ())), None))
    if example is not None:
        said += f"<p><small>for example <code>{escape(str(example))}</code></small></p>"
    return said


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows]
    return f"<table>{''.join(lines)}</table>" if lines else ""


def _prose(text: str) -> str:
    """Our descriptions' part of Markdown: paragraphs, lists, indented blocks, `code` and **bold**."""
    return "".join(_block(block) for block in text.split("\n\n") if block.strip())


def _block(block: str) -> str:
    if block.startswith("- "):
        items = re.split(r"^- ", block, flags=re.MULTILINE)[1:]
        return f"<ul>{''.join(f'<li>{_inline(item)}</li>' for item in items)}</ul>"
    if block.startswith("    "):
        return f"<pre>{escape(block)}</pre>"
    return f"<p>{_inline(block)}</p>"


def _inline(text: str) -> str:
    return "".join(_spans(text))


def _spans(text: str) -> Iterator[str]:
    for number, span in enumerate(text.split("`")):
        if number % 2:
            yield f"<code>{escape(span)}</code>"
        else:
            yield re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", escape(span), flags=re.DOTALL)
