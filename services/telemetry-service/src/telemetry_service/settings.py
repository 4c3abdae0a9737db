"""Configuration of telemetry-service."""

from typing import Self

from pydantic import Field, model_validator
from teleop_runtime.posture import check_listening
from teleop_runtime.settings import ServiceSettings


class TelemetrySettings(ServiceSettings):
    """Environment of telemetry-service."""

    host: str = Field("127.0.0.1", alias="TELEMETRY_HOST")
    port: int = Field(8001, alias="TELEMETRY_PORT", ge=0, le=65_535)

    @model_validator(mode="after")
    def _stay_local(self) -> Self:
        check_listening(self.host, self.exposure, "TELEMETRY_HOST")
        return self
