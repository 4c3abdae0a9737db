"""Configuration from the environment, a `.env` file and a secrets folder; every mistake told at once."""

import sys
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

SECRETS = Path("/run/secrets")

Exposure = Literal["local", "lab"]


class ServiceSettings(BaseSettings):
    """What every service needs to know; a service adds its own fields with its own prefix."""

    model_config = SettingsConfigDict(
        env_file=".env",
        extra="ignore",
        secrets_dir=SECRETS if SECRETS.is_dir() else None,
        populate_by_name=True,
    )

    database_url: str = Field(
        alias="DATABASE_URL", description="postgresql://user:password@host:port/database"
    )
    exposure: Exposure = Field(
        "local",
        alias="LEROBOT_BACKEND_EXPOSURE",
        description="local: only this machine may connect; lab: others of a network that you trust, too",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", alias="LOG_LEVEL")

    @field_validator("database_url")
    @classmethod
    def _is_postgres(cls, url: str) -> str:
        if not url.startswith("postgresql://"):
            raise ValueError("must begin with postgresql://")
        return url


def load_settings[Settings: BaseSettings](kind: type[Settings]) -> Settings:
    """Settings of this process; exits with status 2 and a line per mistake when they can't be read."""
    try:
        return kind()
    except ValidationError as error:
        lines = [
            f"  {'.'.join(map(str, mistake['loc'])) or kind.__name__}: {mistake['msg']}"
            for mistake in error.errors()
        ]
        print("the configuration is wrong:", *lines, sep="\n", file=sys.stderr)
        raise SystemExit(2) from None
