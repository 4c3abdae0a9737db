"""Stores that hold nothing yet."""

from pathlib import Path

import pytest
from teleop_runtime.store import Store, open_store


@pytest.fixture(params=["local", "s3"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of an empty store."""
    if request.param == "local":
        return str(tmp_path / "backup")
    return request.getfixturevalue("s3_folder").address


@pytest.fixture
def store(address: str) -> Store:
    """That store."""
    return open_store(address)
