"""A description as a page to read."""

import pytest
from teleop_runtime.serving.openapi.page import page_of

DOCUMENT = {
    "info": {"title": "a <b>", "description": "All **about** it.\n\n- one `x < y`\n- two\n\n    code  here"},
    "tags": [{"name": "things", "description": "All things"}],
    "paths": {
        "/things/{id}": {
            "patch": {
                "tags": ["things"],
                "operationId": "change_thing",
                "summary": "Change a thing.",
                "description": "More about it.",
                "parameters": [
                    {
                        "name": "id",
                        "in": "path",
                        "required": True,
                        "description": "Its number",
                        "example": 7,
                        "schema": {"type": "integer", "minimum": 1, "default": 5},
                    }
                ],
                "requestBody": {
                    "required": False,
                    "content": {
                        "application/json": {
                            "schema": {"$ref": "#/components/schemas/Thing"},
                            "example": {"a": "<i>"},
                        }
                    },
                },
                "responses": {
                    "204": {"description": "Done", "headers": {"ETag": {"description": "Its version"}}}
                },
            }
        }
    },
    "components": {
        "schemas": {
            "Thing": {
                "description": "A thing.",
                "required": ["a"],
                "properties": {
                    "a": {"anyOf": [{"type": "string", "pattern": "^<+$"}, {"type": "null"}]},
                    "b": {"type": "array", "items": {"type": "string", "enum": ["x"]}, "maxItems": 2},
                    "c": {"type": "object", "additionalProperties": {"type": "number"}},
                    "d": {"type": "string", "format": "binary"},
                },
            }
        }
    },
}


@pytest.fixture(scope="module")
def page() -> str:
    return page_of(DOCUMENT)


@pytest.mark.parametrize(
    "shown",
    [
        "<title>a &lt;b&gt;</title>",
        "<p>All <b>about</b> it.</p>",
        "<ul><li>one <code>x &lt; y</code>\n</li><li>two</li></ul>",
        "<pre>    code  here</pre>",
        '<section id="change_thing"><h3><b class="method">PATCH</b> <code>/things/{id}</code></h3>',
        "<p>Change a thing.</p><p>More about it.</p>",
        "<td><code>id</code> <small>path, required</small></td><td>integer <small>1 … </small></td>",
        "default: <code>5</code>",
        "for example <code>7</code>",
        '<a href="#schema-Thing">Thing</a>',
        "&lt;i&gt;",
        "may be left out",
        "<p><code>ETag</code>: Its version</p>",
        "string<br><code>^&lt;+$</code> or null",
        "list of <code>&quot;x&quot;</code> <small> … 2</small>",
        "object of number",
        "<td>bytes</td>",
    ],
)
def test_the_page_shows(page, shown):
    """What the document says, and nothing of it as markup."""
    assert shown in page
