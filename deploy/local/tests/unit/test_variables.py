"""That every variable which a setting is read from is known, so that it is never called mistyped."""

from teleop_backend.settings import LocalSettings
from teleop_export.settings import ExportSettings
from teleop_schema.commands.variables import VARIABLES, mistyped
from teleop_telemetry.settings import TelemetrySettings
from teleop_video_ingest.settings import IngestSettings


def test_all_settings_are_known():
    """Of all services, and of all of them in one process."""
    kinds = (ExportSettings, IngestSettings, LocalSettings, TelemetrySettings)
    names = {str(field.alias) for kind in kinds for field in kind.model_fields.values()}
    assert list(mistyped(names)) == []
    assert {name for name in names if name.startswith(("EXPORT_", "INGEST_", "TELEMETRY_"))} <= VARIABLES
