"""Configuration of telemetry-service."""

from pydantic import Field
from teleop_runtime.settings import ServiceSettings


class TelemetrySettings(ServiceSettings):
    """Environment of telemetry-service."""

    host: str = Field("127.0.0.1", alias="TELEMETRY_HOST")
    port: int = Field(8001, alias="TELEMETRY_PORT", ge=0, le=65_535)
