"""`python -m teleop_video_ingest`: receives, stores, checks and serves files."""

from teleop_runtime.logs import configure_logs
from teleop_runtime.serving.serve import serve
from teleop_runtime.settings import load_settings, read_command_line

from teleop_video_ingest.app import create_app
from teleop_video_ingest.settings import IngestSettings

if __name__ == "__main__":
    read_command_line(__doc__, IngestSettings)
    settings = load_settings(IngestSettings)
    configure_logs(settings.log_level)
    serve(create_app(settings), host=settings.host, port=settings.port)
