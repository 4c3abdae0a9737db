"""Configuration of the one-process default."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from teleop_runtime.serving.posture import check_listening
from teleop_telemetry.settings import RetentionSettings
from teleop_video_ingest.settings import UploadSettings


class LocalSettings(UploadSettings, RetentionSettings):
    """Environment of the one-process default; nothing has to be set."""

    data_dir: Path = Field(
        Path("data"), alias="LEROBOT_BACKEND_DATA_DIR", description="folder for PostgreSQL's data and log"
    )
    backup_dir: Path = Field(
        Path("lerobot_backup"),
        alias="LEROBOT_BACKEND_BACKUP_DIR",
        description="folder for what robots send, and for exported datasets",
    )
    host: str = Field("127.0.0.1", alias="LEROBOT_BACKEND_HOST", description="address to listen on")
    port: int = Field(8000, alias="LEROBOT_BACKEND_PORT", ge=0, le=65_535, description="port to listen on")

    @model_validator(mode="after")
    def _stay_local(self) -> Self:
        check_listening(self.host, self.exposure, "LEROBOT_BACKEND_HOST")
        return self
