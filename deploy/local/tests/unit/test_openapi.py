"""The document of all addresses."""

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from openapi_spec_validator import validate
from teleop_backend.console import FOR_EVER
from teleop_backend.console import POLICY as CONSOLE_POLICY
from teleop_backend.openapi import descriptions
from teleop_export.api.asking import RepeatRequest
from teleop_export.planning.push import PushRequest
from teleop_export.planning.request import ExportRequest
from teleop_export.webhooks.views import WebhookRequest
from teleop_runtime.serving.openapi.page import POLICY
from teleop_schema.files import FilePlan, Manifest
from teleop_schema.holding import Held
from teleop_telemetry.access.fleet.views import Asking, NewPool
from teleop_telemetry.access.people_views import NewPerson, SigningIn
from teleop_telemetry.access.quota_endpoints import NewQuota
from teleop_telemetry.access.views import Joining, NewToken
from teleop_telemetry.erasing.views import NewErasure
from teleop_telemetry.library.episode_edits import Undo
from teleop_telemetry.library.flag_endpoints import NewThreshold
from teleop_telemetry.library.reason_table import NewReason
from teleop_telemetry.tables.views import EpisodeChange, SessionChange
from teleop_video_ingest.api.forms import DatasetForm, VideoForm
from teleop_video_ingest.model.announced import allowed_fields
from teleop_video_ingest.uploads.multipart import FILE_FIELD

PROXY = Path(__file__).parents[3] / "proxy"
SERVERS = ("lerobot-backend", "telemetry-service", "video-ingest-service", "export-service")
BODIES = {
    kind.__name__: kind
    for kind in (
        Asking,
        NewPool,
        NewQuota,
        SessionChange,
        EpisodeChange,
        NewReason,
        NewThreshold,
        Undo,
        FilePlan,
        Held,
        Joining,
        Manifest,
        NewErasure,
        NewPerson,
        NewToken,
        SigningIn,
        ExportRequest,
        RepeatRequest,
        WebhookRequest,
        PushRequest,
    )
}


@pytest.fixture(params=SERVERS)
def document(request, documents) -> dict[str, Any]:
    """The document of one server."""
    return documents[request.param]


@pytest.fixture
def whole(documents) -> dict[str, Any]:
    """The document of all addresses."""
    return documents["lerobot-backend"]


def operations_of(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """("GET /sessions", operation) of each operation."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def parts_of(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a document."""
    if isinstance(value, dict):
        yield value
        for each in value.values():
            yield from parts_of(each)
    elif isinstance(value, list):
        for each in value:
            yield from parts_of(each)


@pytest.mark.parametrize("name", ["openapi.json", "docs.html"])
def test_the_stacks_proxy_serves_the_description_of_the_one_process_default(name):
    """An address that is new, or answers otherwise, is in the files after `make openapi`."""
    assert (PROXY / name).read_bytes() == descriptions()[name], "run make openapi"


def test_the_stacks_proxy_lets_its_pages_do_as_little():
    """With the policies that the one-process default sends; copies of the console's parts last as long."""
    routes = (PROXY / "routes.caddy").read_text()
    for said in (POLICY, CONSOLE_POLICY, FOR_EVER):
        assert f'"{said}"' in routes


class Page(HTMLParser):
    """The tags, ids and links of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.links: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            assert name != "src"
            if name == "id":
                self.ids.append(value or "")
            elif name == "href":
                self.links.add(value or "")


def test_the_page_needs_nothing_else(whole):
    """Neither a program nor a file of another host; each of its links leads somewhere in it."""
    page = Page(descriptions()["docs.html"].decode())
    assert not page.tags & {"script", "link", "img", "iframe", "object"}
    assert page.links == {f"#{name}" for name in page.ids if f"#{name}" in page.links} | {"openapi.json"}
    assert len(page.ids) == len(set(page.ids))
    described = {operation["operationId"] for _, operation in operations_of(whole)}
    assert described | {f"schema-{name}" for name in whole["components"]["schemas"]} <= set(page.ids)


def test_the_document_is_valid(document):
    """By the specification's own schema."""
    validate(document)


def test_services_and_the_whole_say_the_same(documents):
    """An address has one description, wherever it is read; the console's page is served by the whole, and by
    the proxy."""
    page = {path: documents["lerobot-backend"]["paths"][path] for path in ("/", "/ui/{file}")}
    together: dict[str, Any] = page
    for server in SERVERS[1:]:
        together |= documents[server]["paths"]
    assert together == documents["lerobot-backend"]["paths"]


def test_everything_has_a_meaning(document):
    """Each parameter, each header and each field; each operation has a tag, and a name of its own."""
    without = [
        f"{name}: {parameter['name']}"
        for name, operation in operations_of(document)
        for parameter in operation.get("parameters", ())
        if not parameter.get("description")
    ]
    without += [
        f"{name}: {header}"
        for name, operation in operations_of(document)
        for answer in operation["responses"].values()
        for header, told in answer.get("headers", {}).items()
        if not told["description"]
    ]
    without += [
        f"{name}.{field}"
        for name, schema in document["components"]["schemas"].items()
        for field, told in schema["properties"].items()
        if not told.get("description")
    ]
    assert without == []
    tags = {tag["name"] for tag in document["tags"] if tag["description"] != tag["name"]}
    assert {tag for _, operation in operations_of(document) for tag in operation["tags"]} == tags
    names = [operation["operationId"] for _, operation in operations_of(document)]
    assert len(names) == len(set(names))


def test_generators_understand_the_schemas(document):
    """Names are those of our types alone, and no two are the same; lists have items of one kind."""
    schemas = document["components"]["schemas"]
    assert all(name.isalnum() and schema["title"] == name for name, schema in schemas.items())
    for part in parts_of(schemas):
        assert "prefixItems" not in part
        assert part.get("type") != "array" or "items" in part


def test_examples_are_bodies_that_the_backend_reads(whole):
    """Each JSON body has one."""
    read = set()
    for _, operation in operations_of(whole):
        content = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if content is not None:
            kind = content["schema"]["$ref"].rsplit("/", 1)[-1]
            msgspec.convert(content["example"], BODIES[kind])
            read.add(kind)
    assert read == set(BODIES)


@pytest.mark.parametrize(("form", "kind"), [(VideoForm, "video"), (DatasetForm, "dataset")])
def test_forms_are_those_that_are_read(form, kind):
    """Field by field."""
    assert set(form.__struct_fields__) == {*allowed_fields(kind), FILE_FIELD}


def test_uploads_say_what_travels_in_headers(whole):
    """Of both ways."""
    patch = whole["paths"]["/files/{upload_id}"]["patch"]
    asked = {parameter["name"] for parameter in patch["parameters"] if parameter["in"] == "header"}
    assert asked == {"Tus-Resumable", "Upload-Offset", "Upload-Checksum", "Upload-Length"}
    assert set(patch["responses"]["204"]["headers"]) == {"Tus-Resumable", "Upload-Offset", "Upload-Expires"}


def test_files_say_all_that_they_are_answered_with(whole):
    """All of it, a part of it, nothing new, and no such part."""
    answers = whole["paths"]["/videos/{video_id}/content"]["get"]["responses"]
    assert {"200", "206", "304", "404", "416"} <= set(answers)
    assert "Content-Range" in answers["206"]["headers"]
