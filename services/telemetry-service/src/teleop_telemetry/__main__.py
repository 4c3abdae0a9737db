"""`python -m teleop_telemetry`: stores joint telemetry in PostgreSQL, and serves it."""

from teleop_runtime.logs import configure_logs
from teleop_runtime.serving.serve import serve
from teleop_runtime.settings import load_settings, read_command_line

from teleop_telemetry.app import create_app
from teleop_telemetry.settings import TelemetrySettings

if __name__ == "__main__":
    read_command_line(__doc__, TelemetrySettings)
    settings = load_settings(TelemetrySettings)
    configure_logs(settings.log_level)
    serve(create_app(settings), host=settings.host, port=settings.port)
