"""Configuration of export-service."""

from pathlib import Path

from pydantic import Field
from teleop_runtime.settings import ServiceSettings


class ExportSettings(ServiceSettings):
    """Environment of export-service."""

    export_root: Path = Field(
        Path("lerobot_backup/.exports"),
        alias="EXPORT_ROOT",
        description="folder of finished datasets; each is built beside them, on the same file system",
    )
    store_url: str = Field(
        "lerobot_backup",
        alias="STORE_URL",
        description="where video-ingest-service keeps recorded video: a folder, or s3://bucket/prefix",
    )
    work_here: bool = Field(
        True,
        alias="EXPORT_WORK_HERE",
        description=(
            "make exports in the service's own process; false if `teleop_export.worker` processes make them"
        ),
    )
    host: str = Field("127.0.0.1", alias="EXPORT_HOST", description="address to listen on")
    port: int = Field(
        8003, alias="EXPORT_PORT", ge=0, le=65_535, description="port to listen on; 0: any free port"
    )
