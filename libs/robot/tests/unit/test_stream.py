"""The small files of a stream's directory."""

import resource

import pytest
from lerobot_robot_backend.spool.durable import replace_file


@pytest.fixture
def little_room():
    """Files take 5000 bytes and no more, as on a disk that is nearly full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, little_room):
    """What finds room for its beginning only is no file; the earlier one stays, and the error names it."""
    path = tmp_path / "session.json"
    replace_file(path, b"earlier", durable=True)
    with pytest.raises(OSError, match=r"session\.json'"):
        replace_file(path, bytes(8000), durable=True)
    assert path.read_bytes() == b"earlier"
    assert [entry.name for entry in tmp_path.iterdir()] == ["session.json"]
