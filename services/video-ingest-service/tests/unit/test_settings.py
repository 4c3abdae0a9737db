"""Configuration of the service."""

import pytest
from pydantic import ValidationError
from teleop_video_ingest.settings import IngestSettings

DATABASE = "postgresql://user@localhost/teleop"


def test_files_are_kept_where_people_look_for_them():
    """In ./lerobot_backup, unless a folder or a bucket is named."""
    assert IngestSettings(database_url=DATABASE, _env_file=None).store_url == "lerobot_backup"


def test_each_mistake_is_told():
    """All of them at once, by the names of the environment."""
    with pytest.raises(ValidationError) as caught:
        IngestSettings(
            DATABASE_URL="mysql://x",
            STORE_URL="",
            INGEST_PORT="70000",
            INGEST_MAX_OPEN_UPLOADS="0",
            _env_file=None,
        )
    assert {mistake["loc"][0] for mistake in caught.value.errors()} == {
        "DATABASE_URL",
        "STORE_URL",
        "INGEST_PORT",
        "INGEST_MAX_OPEN_UPLOADS",
    }
