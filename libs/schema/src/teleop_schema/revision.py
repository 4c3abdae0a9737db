"""Which migrations there are, without what runs them."""

from functools import cache
from pathlib import Path


@cache
def newest_revision() -> str:
    """Number of the newest migration of this release, as a database that has it tells: "0007"."""
    files = (Path(__file__).parent / "migrations" / "versions").glob("v[0-9]*_*.py")
    return max(path.name[1:].partition("_")[0] for path in files)
