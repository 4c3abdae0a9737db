"""Configuration of the service."""

import pytest
from pydantic import ValidationError
from teleop_telemetry.settings import TelemetrySettings


def settings(**changes: str) -> TelemetrySettings:
    return TelemetrySettings(database_url="postgresql://host", _env_file=None, **changes)


def test_local_posture_listens_to_its_own_machine_only():
    """Listening on another address is refused at start, with the setting that would allow it."""
    for host in ("0.0.0.0", "::", "192.168.1.5"):
        with pytest.raises(ValidationError, match="LEROBOT_BACKEND_EXPOSURE=lab"):
            settings(host=host)
        assert settings(host=host, exposure="lab").host == host
    for host in ("127.0.0.1", "::1", "localhost"):
        assert settings(host=host).host == host
