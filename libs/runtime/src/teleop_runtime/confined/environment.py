"""The environment of processes that this backend starts: what programs need to run, and no secret."""

import os
from collections.abc import Mapping

# Where programs and libraries are, how text is written, and what time it is.
KEPT = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TZDIR", "TMPDIR",
    "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH", "SYSTEMROOT",
    "PYTHONPATH", "PYTHONHOME", "PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE", "PYTHONWARNINGS",
    "VIRTUAL_ENV",
)  # fmt: skip
KEPT_PREFIX = "LC_"


def minimal_environment(given: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Of an environment, by default this process's own, what a child may know."""
    return {name: value for name, value in given.items() if name in KEPT or name.startswith(KEPT_PREFIX)}
