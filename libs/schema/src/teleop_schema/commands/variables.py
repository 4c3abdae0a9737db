"""The environment variables that the product reads, to report mistyped ones. Pure."""

import difflib
import re
from collections.abc import Iterable, Iterator

VARIABLES = frozenset(
    {
        "DATABASE_URL",
        "EXPORT_HOST",
        "EXPORT_PORT",
        "EXPORT_ROOT",
        "EXPORT_WORK_HERE",
        "HUB_TOKENS",
        "INGEST_HOST",
        "INGEST_MAX_OPEN_UPLOADS",
        "INGEST_PORT",
        "LEROBOT_BACKEND_AUTHORITY",
        "LEROBOT_BACKEND_BACKUP_DIR",
        "LEROBOT_BACKEND_CONNECTIONS",
        "LEROBOT_BACKEND_CONNECTIONS_PER_ADDRESS",
        "LEROBOT_BACKEND_DATA_DIR",
        "LEROBOT_BACKEND_DOMAIN",  # of the proxy
        "LEROBOT_BACKEND_EXPOSURE",
        "LEROBOT_BACKEND_FORWARD_AUTH",
        "LEROBOT_BACKEND_FORWARD_AUTH_GROUPS",
        "LEROBOT_BACKEND_FORWARD_AUTH_USER",
        "LEROBOT_BACKEND_FPS",
        "LEROBOT_BACKEND_HOST",
        "LEROBOT_BACKEND_HUB_NAMESPACES",
        "LEROBOT_BACKEND_WEBHOOKS",
        "LEROBOT_BACKEND_JOIN",
        "LEROBOT_BACKEND_KEEP_STACK",  # of the tests
        "LEROBOT_BACKEND_NAMES",
        "LEROBOT_BACKEND_OPEN_METRICS",
        "LEROBOT_BACKEND_PAGES",
        "LEROBOT_BACKEND_PORT",
        "LEROBOT_BACKEND_POSTGRES_BIN",
        "LEROBOT_BACKEND_PROXIES",
        "LEROBOT_BACKEND_ROBOT_ID",
        "LEROBOT_BACKEND_ROBOT_QUOTA_GB",
        "LEROBOT_BACKEND_SPOOL",
        "LEROBOT_BACKEND_SQL_PORT",
        "LEROBOT_BACKEND_TLS",
        "LEROBOT_BACKEND_TOKEN",
        "LEROBOT_BACKEND_TRUST_NETWORK",
        "LEROBOT_BACKEND_URL",
        "LEROBOT_BACKEND_VIDEO",
        "STORE_URL",
        "TELEMETRY_HOST",
        "TELEMETRY_PORT",
        "TELEMETRY_RETENTION_DAYS",
    }
)
PREFIX = "LEROBOT_BACKEND_"
# How similar names must be (1: equal) after a prefix of ours, after one that others use too, and as a whole.
_ALIKE = {PREFIX: 0.6, "EXPORT_": 0.75, "INGEST_": 0.75, "TELEMETRY_": 0.75}
_ALIKE_AS_A_WHOLE = 0.88
# Variables that Kubernetes sets for each service that it knows.
_SERVICE = re.compile(r".*_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_\w+)?)")


def mistyped(names: Iterable[str]) -> Iterator[str]:
    """A line about each variable that nothing reads but that probably was meant to be one of ours."""
    for name in sorted(names):
        told = name.upper()
        if told in VARIABLES or _SERVICE.fullmatch(told):
            continue
        near = _nearest(told)
        if near or told.startswith(PREFIX):
            meant = f": is {near} meant?" if near else ""
            yield f"the environment variable {name} is not known, and does nothing{meant}"


def _nearest(name: str) -> str | None:
    for prefix, alike in _ALIKE.items():
        if name.startswith(prefix):
            ours = [each.removeprefix(prefix) for each in VARIABLES if each.startswith(prefix)]
            near = difflib.get_close_matches(name.removeprefix(prefix), ours, n=1, cutoff=alike)
            return prefix + near[0] if near else None
    return next(iter(difflib.get_close_matches(name, VARIABLES, n=1, cutoff=_ALIKE_AS_A_WHOLE)), None)
