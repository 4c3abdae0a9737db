"""Configuration of the one-process default."""

from teleop_backend.settings import LocalSettings
from teleop_export.settings import ExportSettings
from teleop_telemetry.settings import TelemetrySettings
from teleop_video_ingest.settings import IngestSettings

# Where everything is follows from the two folders and the one address.
PLACES = {"DATABASE_URL", "STORE_URL", "EXPORT_ROOT", "EXPORT_WORK_HERE", "LEROBOT_BACKEND_AUTHORITY"}


def names_of(kind) -> set[str]:
    return {field.alias for field in kind.model_fields.values()}


def test_what_the_services_can_be_told_it_can_be_told():
    """By the same names, but for where they listen and keep things."""
    services = names_of(TelemetrySettings) | names_of(IngestSettings) | names_of(ExportSettings)
    said = {name for name in services - PLACES if not name.endswith(("_HOST", "_PORT"))}
    assert {"INGEST_MAX_OPEN_UPLOADS", "TELEMETRY_RETENTION_DAYS"} <= said
    assert said <= names_of(LocalSettings)
