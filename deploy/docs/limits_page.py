"""docs/reference/limits.md, with the values of the constants that the programs obey.

The page names the constants of a value behind it: `1 MiB <!-- teleop_schema.limits.MAX_MESSAGE_BYTES -->`.
"""

import importlib
import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "limits.md"
VALUE = re.compile(r"\| [^|]* <!-- ([\w. ]+) -->")
BYTES = ("GB", 10**9), ("MB", 10**6), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)
SPANS = ("days", 86_400), ("hours", 3_600), ("minutes", 60)


def limits_page() -> str:
    """The page as Markdown: as it is, with the values of now."""
    return VALUE.sub(_row, PAGE.read_text("utf-8"))


def _row(found: re.Match[str]) -> str:
    return f"| {'; '.join(map(_said, found[1].split()))} <!-- {found[1]} -->"


def _said(constant: str) -> str:
    """The value of `module.NAME` as people write it; the end of its name says what it counts."""
    module, _, name = constant.rpartition(".")
    value = getattr(importlib.import_module(module), name)
    if name.endswith("_BYTES"):
        unit, size = next(((unit, size) for unit, size in BYTES if value % size == 0), ("bytes", 1))
        return f"{value / size:,g} {unit}"
    if name.endswith("_S"):
        if value < 1:
            return f"{value * 1000:g} ms"
        unit, size = next(((unit, size) for unit, size in SPANS if value >= 2 * size), ("s", 1))
        return f"{value / size:g} {unit}"
    return f"{value:.0%}".replace("%", " %") if isinstance(value, float) else f"{value:,}"
