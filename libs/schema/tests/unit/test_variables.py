"""Environment variables that are mistyped."""

import pytest
from teleop_schema.commands.variables import VARIABLES, mistyped


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("LEROBOT_BACKEND_ULR", "LEROBOT_BACKEND_URL"),
        ("LEROBOT_BACKED_URL", "LEROBOT_BACKEND_URL"),
        ("LEROBOT_BACKEND_EXPOSE", "LEROBOT_BACKEND_EXPOSURE"),
        ("TELEMETRY_RETENTION_DAY", "TELEMETRY_RETENTION_DAYS"),
        ("EXPORT_WORKS_HERE", "EXPORT_WORK_HERE"),
        ("INGEST_MAX_UPLOADS", "INGEST_MAX_OPEN_UPLOADS"),
        ("DATABSE_URL", "DATABASE_URL"),
    ],
)
def test_nearest_right_name_is_told(name, meant):
    """Whatever letter it is, of our own prefix or a service's."""
    told = f"the environment variable {name} is not known, and does nothing: is {meant} meant?"
    assert list(mistyped([name, "PATH"])) == [told]


def test_others_variables_are_left_alone():
    """Those of other programs, of Kubernetes, and all that are read."""
    others = ["TELEMETRY_DISABLED", "EXPORT_FORMAT", "HOST", "PORT", "DATABASE_NAME", "HF_HOME"]
    services = ["LEROBOT_BACKEND_TELEMETRY_SERVICE_HOST", "LEROBOT_BACKEND_PORT_8000_TCP_ADDR"]
    assert list(mistyped([*others, *services, *VARIABLES])) == []


def test_what_is_like_none_is_told_all_the_same():
    """A variable with our prefix that nothing reads."""
    (told,) = mistyped(["LEROBOT_BACKEND_QQQQQQQQQQQQQQQQ"])
    assert told.endswith("is not known, and does nothing")
