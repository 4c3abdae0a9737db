"""Configuration of telemetry-service."""

import re
from typing import Self

from pydantic import Field, field_validator, model_validator
from teleop_runtime.settings import ProcessSettings, QuotaSettings, ServiceSettings

# A name, an IPv4 address, or an IPv6 address in brackets.
_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\]", re.ASCII)


class RetentionSettings(ProcessSettings):
    """How long frames stay, wherever this service runs."""

    retention_days: int = Field(
        0,
        alias="TELEMETRY_RETENTION_DAYS",
        ge=0,
        le=36_500,
        description="days after which frames move from the database to the archive; 0: never",
    )


class TlsSettings(ProcessSettings):
    """How others reach this backend by HTTPS."""

    tls: str | None = Field(
        None,
        alias="LEROBOT_BACKEND_TLS",
        description="name or IP address under which others reach this backend by HTTPS, with certificates "
        "of its own authority; unset: plain HTTP, or a proxy with certificates that everybody trusts",
    )

    @field_validator("tls")
    @classmethod
    def _is_a_host(cls, host: str | None) -> str | None:
        if host and not _HOST.fullmatch(host):
            raise ValueError(f"{host!r} is neither the name nor the IP address of a host")
        return host or None

    @property
    def known_as(self) -> frozenset[str]:
        """That name, too."""
        return super().known_as | ({self.tls.lower()} if self.tls else frozenset())


class TelemetrySettings(ServiceSettings, QuotaSettings, RetentionSettings, TlsSettings):
    """Environment of telemetry-service."""

    authority: str | None = Field(
        None,
        alias="LEROBOT_BACKEND_AUTHORITY",
        description="certificate, as PEM, of the authority that signs the proxy's, for LEROBOT_BACKEND_TLS",
    )
    public_port: int = Field(
        8000,
        alias="LEROBOT_BACKEND_PORT",
        ge=1,
        le=65_535,
        description="port at which others reach the proxy",
    )

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

    @property
    def own_authority(self) -> str | None:
        """The certificate of the authority, if others reach this backend with it."""
        return self.authority if self.tls else None

    @model_validator(mode="after")
    def _has_authority(self) -> Self:
        if self.tls and self.authority is None:
            raise ValueError(
                "LEROBOT_BACKEND_TLS needs LEROBOT_BACKEND_AUTHORITY, by which robots know this backend"
            )
        return self

    @model_validator(mode="after")
    def _has_archive(self) -> Self:
        if self.retention_days and self.store_url is None:
            raise ValueError("TELEMETRY_RETENTION_DAYS needs STORE_URL, the place of the archive")
        return self
