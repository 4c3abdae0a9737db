"""Configuration of the one-process default."""

from pathlib import Path

from pydantic import Field
from teleop_telemetry.settings import RetentionSettings, TlsSettings
from teleop_video_ingest.settings import UploadSettings

from teleop_backend.postgres import EmbeddedPostgres


class LocalSettings(UploadSettings, RetentionSettings, TlsSettings):
    """Environment of the one-process default; nothing has to be set."""

    data_dir: Path = Field(
        Path("data"), alias="LEROBOT_BACKEND_DATA_DIR", description="folder for PostgreSQL's data and log"
    )
    backup_dir: Path = Field(
        Path("lerobot_backup"),
        alias="LEROBOT_BACKEND_BACKUP_DIR",
        description="folder for what robots send, and for exported datasets",
    )
    postgres_bin: Path | None = Field(
        None,
        alias="LEROBOT_BACKEND_POSTGRES_BIN",
        description="folder of the programs of an installed PostgreSQL, 15 or later; unset: the one that "
        "came with the backend",
    )
    host: str = Field("127.0.0.1", alias="LEROBOT_BACKEND_HOST", description="address to listen on")
    port: int = Field(8000, alias="LEROBOT_BACKEND_PORT", ge=0, le=65_535, description="port to listen on")

    sql_port: int | None = Field(
        None,
        alias="LEROBOT_BACKEND_SQL_PORT",
        ge=1,
        le=65_535,
        description="port on which the database lets the role `reader` in, for Grafana and others; "
        "unset: none",
    )


def postgres_of(settings: LocalSettings) -> EmbeddedPostgres:
    """The PostgreSQL that these settings describe, not yet started."""
    listen = (settings.host, settings.sql_port) if settings.sql_port else None
    return EmbeddedPostgres(settings.data_dir, programs=settings.postgres_bin, listen=listen)
