"""What describes the backend, as each of its servers tells it."""

from pathlib import Path

import msgspec
import pytest
from teleop_backend.openapi import answer_of, descriptions
from teleop_export.app import export_part
from teleop_export.hub.settings import HubSettings
from teleop_export.webhooks.settings import WebhookSettings
from teleop_runtime.serving.app import assemble
from teleop_telemetry.app import telemetry_part
from teleop_video_ingest.app import ingest_part

# Nothing connects to it: a description needs no database.
NOWHERE = "postgresql:///nowhere"


@pytest.fixture(scope="session")
def documents() -> dict[str, dict]:
    """The OpenAPI documents of the one-process default, and of each service as a server of its own."""
    parts = [
        telemetry_part(NOWHERE),
        ingest_part(NOWHERE, "nowhere"),
        export_part(NOWHERE, Path("nowhere"), "nowhere", HubSettings(), WebhookSettings()),
    ]
    apps = {part.name: assemble(part.name, [part], exposure="local") for part in parts}
    alone = {name: msgspec.json.decode(answer_of(app, "/openapi.json")) for name, app in apps.items()}
    return {"lerobot-backend": msgspec.json.decode(descriptions()["openapi.json"]), **alone}
