"""`python -m telemetry_service`: serve alone."""

from teleop_runtime.logs import configure_logs
from teleop_runtime.serve import serve
from teleop_runtime.settings import load_settings

from telemetry_service.app import create_app
from telemetry_service.settings import TelemetrySettings

if __name__ == "__main__":
    settings = load_settings(TelemetrySettings)
    configure_logs(settings.log_level)
    serve(create_app(settings), host=settings.host, port=settings.port)
