"""`python -m video_ingest_service`: serve alone."""

from teleop_runtime.logs import configure_logs
from teleop_runtime.serve import serve
from teleop_runtime.settings import load_settings

from video_ingest_service.app import create_app
from video_ingest_service.settings import IngestSettings

if __name__ == "__main__":
    settings = load_settings(IngestSettings)
    configure_logs(settings.log_level)
    serve(create_app(settings), host=settings.host, port=settings.port)
