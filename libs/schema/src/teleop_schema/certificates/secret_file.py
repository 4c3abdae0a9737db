"""Files with keys and passwords."""

import os
from pathlib import Path

OWNER_READS = 0o600


def write_secret(path: Path, text: str, mode: int = OWNER_READS) -> None:
    """Write a file that is there whole or not at all, and that only its owner can read; raises OSError.

    mode  who may read it, where that is not its owner alone
    """
    unfinished = path.with_name(f".{path.name}")
    unfinished.unlink(missing_ok=True)
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        # Whatever the umask says.
        os.fchmod(file.fileno(), mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
