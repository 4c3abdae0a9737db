"""Configuration of telemetry-service."""

from typing import Self

from pydantic import Field, model_validator
from teleop_runtime.serving.posture import check_listening
from teleop_runtime.settings import ProcessSettings, ServiceSettings


class RetentionSettings(ProcessSettings):
    """How long frames stay, wherever this service runs."""

    retention_days: int = Field(
        0,
        alias="TELEMETRY_RETENTION_DAYS",
        ge=0,
        le=36_500,
        description="days after which frames move from the database to the archive; 0: never",
    )


class TelemetrySettings(ServiceSettings, RetentionSettings):
    """Environment of telemetry-service."""

    host: str = Field("127.0.0.1", alias="TELEMETRY_HOST", description="address to listen on")
    port: int = Field(
        8001, alias="TELEMETRY_PORT", ge=0, le=65_535, description="port to listen on; 0: any free port"
    )

    store_url: str | None = Field(
        None,
        alias="STORE_URL",
        min_length=1,
        description="where archived sessions, videos and datasets are kept: a folder, or s3://…",
    )

    @model_validator(mode="after")
    def _stay_local(self) -> Self:
        check_listening(self.host, self.exposure, "TELEMETRY_HOST")
        return self

    @model_validator(mode="after")
    def _has_archive(self) -> Self:
        if self.retention_days and self.store_url is None:
            raise ValueError("TELEMETRY_RETENTION_DAYS needs STORE_URL, the place of the archive")
        return self
