"""The numbers of the migrations, without importing what runs them."""

from functools import cache
from pathlib import Path


@cache
def newest_revision() -> str:
    """Number of the newest migration of this release, as stored in a migrated database: "0007"."""
    files = (Path(__file__).parent / "versions").glob("v[0-9]*_*.py")
    return max(path.name[1:].partition("_")[0] for path in files)
