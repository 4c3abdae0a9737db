"""docs/reference/errors.md, from the classes of the errors."""

import importlib
from collections.abc import Iterator

from teleop_schema.errors import BackendError

MODULES = {
    "Every service": "teleop_schema.errors",
    "telemetry-service": "teleop_telemetry.receiving.commit",
    "video-ingest-service": "teleop_video_ingest.errors",
    "export-service": "teleop_export.errors",
}
BEFORE = """\
# Error codes

<!-- made by `make reference` -->
`code` names the kind of an error. [Troubleshooting](../troubleshooting.md) shows a whole error and says what
`retryable` means. The close code is that of a WebSocket.
"""


def errors_page() -> str:
    """The page as Markdown."""
    return BEFORE + "\n".join(_groups()) + "\n"


def _groups() -> Iterator[str]:
    for title, module in MODULES.items():
        importlib.import_module(module)
        yield f"\n## {title}\n| code | HTTP | close code | retryable | means |\n|---|---|---|---|---|"
        for each in sorted((each for each in _kinds(BackendError) if each.__module__ == module), key=_code):
            means = (each.__doc__ or "").strip().partition("\n")[0]
            again = "yes" if each.retryable else "no"
            yield f"| `{each.code}` | {each.status} | {each.close_code} | {again} | {means} |"


def _kinds(kind: type[BackendError]) -> Iterator[type[BackendError]]:
    for each in kind.__subclasses__():
        if each.code != kind.code:
            yield each
        yield from _kinds(each)


def _code(kind: type[BackendError]) -> str:
    return kind.code
