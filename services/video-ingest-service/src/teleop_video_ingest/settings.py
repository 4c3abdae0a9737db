"""Configuration of video-ingest-service."""

from pydantic import Field
from teleop_runtime.settings import QuotaSettings, ServiceSettings

from teleop_video_ingest.uploads.admission import MAX_OPEN_UPLOADS


class UploadSettings(QuotaSettings):
    """Limits for uploads, wherever this service runs."""

    max_open_uploads: int = Field(
        MAX_OPEN_UPLOADS,
        alias="INGEST_MAX_OPEN_UPLOADS",
        ge=1,
        description="how many unfinished uploads each robot may have",
    )


class IngestSettings(ServiceSettings, UploadSettings):
    """Environment of video-ingest-service."""

    store_url: str = Field(
        "lerobot_backup",
        alias="STORE_URL",
        min_length=1,
        description="where files are kept: a folder, or s3://bucket/prefix",
    )
    host: str = Field("127.0.0.1", alias="INGEST_HOST", description="address to listen on")
    port: int = Field(
        8002, alias="INGEST_PORT", ge=0, le=65_535, description="port to listen on; 0: any free port"
    )
