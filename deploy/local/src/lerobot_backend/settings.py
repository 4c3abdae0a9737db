"""Configuration of the one-process default."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from teleop_runtime.posture import check_listening
from teleop_runtime.settings import Exposure


class LocalSettings(BaseSettings):
    """Environment of the one-process default; nothing has to be set."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", populate_by_name=True)

    data_dir: Path = Field(Path("data"), alias="LEROBOT_BACKEND_DATA_DIR")
    backup_dir: Path = Field(Path("lerobot_backup"), alias="LEROBOT_BACKEND_BACKUP_DIR")
    exposure: Exposure = Field("local", alias="LEROBOT_BACKEND_EXPOSURE")
    host: str = Field("127.0.0.1", alias="LEROBOT_BACKEND_HOST")
    port: int = Field(8000, alias="LEROBOT_BACKEND_PORT", ge=0, le=65_535)
    log_level: str = Field("INFO", alias="LOG_LEVEL")

    @model_validator(mode="after")
    def _stay_local(self) -> Self:
        check_listening(self.host, self.exposure, "LEROBOT_BACKEND_HOST")
        return self
