"""Files that may not be touched, whoever runs the tests."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def refuse(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """As if it were somebody else's: it can't be opened, listed or looked at."""
    for name in ("open", "scandir", "listdir", "stat", "lstat"):
        monkeypatch.setattr(os, name, _refusing(getattr(os, name), str(path)))


def _refusing(real: Callable[..., Any], path: str) -> Callable[..., Any]:
    def call(asked: object, *rest: object, **more: object) -> Any:
        if str(asked) == path:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(asked, *rest, **more)

    return call
