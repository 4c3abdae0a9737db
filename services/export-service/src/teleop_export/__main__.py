"""`python -m teleop_export`: makes LeRobot datasets of what was recorded."""

from teleop_runtime.logs import configure_logs
from teleop_runtime.serving.serve import serve
from teleop_runtime.settings import load_settings, read_command_line

from teleop_export.app import create_app
from teleop_export.arrow import give_memory_back
from teleop_export.hub.settings import HubSettings
from teleop_export.settings import ExportSettings

if __name__ == "__main__":
    read_command_line(__doc__, ExportSettings, HubSettings)
    settings = load_settings(ExportSettings)
    configure_logs(settings.log_level)
    give_memory_back()
    serve(create_app(settings), host=settings.host, port=settings.port)
