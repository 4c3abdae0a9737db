"""Configuration of telemetry-service."""

from typing import Self

from pydantic import Field, model_validator
from teleop_runtime.posture import is_loopback_host
from teleop_runtime.settings import ServiceSettings


class TelemetrySettings(ServiceSettings):
    """Environment of telemetry-service."""

    host: str = Field("127.0.0.1", alias="TELEMETRY_HOST")
    port: int = Field(8001, alias="TELEMETRY_PORT", ge=0, le=65_535)

    @model_validator(mode="after")
    def _stay_local(self) -> Self:
        if self.exposure == "local" and not is_loopback_host(self.host):
            raise ValueError(
                f"TELEMETRY_HOST {self.host} would let other machines in; "
                "if that is wanted, set LEROBOT_BACKEND_EXPOSURE=lab"
            )
        return self
