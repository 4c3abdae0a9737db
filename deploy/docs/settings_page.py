"""docs/reference/settings.md, from the settings classes of the services."""

import re
from collections.abc import Iterator
from pathlib import Path

from annotated_types import Ge, Le
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings
from teleop_backend.settings import LocalSettings
from teleop_export.hub.settings import HubSettings
from teleop_export.settings import ExportSettings
from teleop_export.webhooks.settings import WebhookSettings
from teleop_telemetry.settings import TelemetrySettings
from teleop_video_ingest.settings import IngestSettings

SERVERS: dict[str, tuple[str, tuple[type[BaseSettings], ...]]] = {
    "The one process": (
        "`make run`, `python -m teleop_backend`, `lerobot-backend`",
        (LocalSettings, HubSettings, WebhookSettings),
    ),
    "telemetry-service": ("`python -m teleop_telemetry`", (TelemetrySettings,)),
    "video-ingest-service": ("`python -m teleop_video_ingest`", (IngestSettings,)),
    "export-service": (
        "`python -m teleop_export` and `python -m teleop_export.worker`",
        (ExportSettings, HubSettings, WebhookSettings),
    ),
}
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"
MADE = re.compile(r"(?<=<!-- made by `make reference` -->\n).*(?=\n<!-- until here -->)", re.DOTALL)


def settings_page() -> str:
    """The page as Markdown: as it is, with the settings of now."""
    return MADE.sub(lambda _: "\n".join(_servers()), PAGE.read_text("utf-8"))


def _servers() -> Iterator[str]:
    for title, (command, kinds) in SERVERS.items():
        yield f"\n## {title}\n{command}\n"
        yield "| variable | value | default | meaning |\n|---|---|---|---|"
        for kind in kinds:
            for field in kind.model_fields.values():
                yield f"| `{field.alias}` | {_kind(field)} | {_default(field)} | {field.description} |"


def _kind(field: FieldInfo) -> str:
    """What may be written: a type in the reader's words, and the bounds of a number."""
    allowed = getattr(field.annotation, "__args__", ())
    if all(isinstance(each, str) for each in allowed) and allowed:
        return ", ".join(f"`{each}`" for each in allowed)
    kinds = [each for each in allowed or (field.annotation,) if each is not type(None)]
    words = {int: "whole number", bool: "`true`, `false`", str: "text", SecretStr: "secret"}
    said = " or ".join(words.get(each, "path") for each in kinds)
    least = next((each.ge for each in field.metadata if isinstance(each, Ge)), None)
    most = next((each.le for each in field.metadata if isinstance(each, Le)), None)
    if least is None:
        return said
    return f"{said}, {least} to {most}" if most is not None else f"{said}, at least {least}"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    if field.default is None:
        return ""
    default = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
    return f"`{default}`"
