"""The small files of a stream's directory."""

import resource

import pytest
from lerobot_robot_backend.spool.durable import replace_file
from lerobot_robot_backend.spool.stream import SESSION_FILE, find_streams
from teleop_testing.robots.spooled import open_writer, write


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


def test_samples_without_their_description_are_told(tmp_path):
    """Else nobody would ever bring them. One that was never begun, or is being begun, is no loss."""
    whole, lost, begun = (open_writer(tmp_path) for _ in range(3))
    for writer in (whole, lost):
        write(writer, 1)
    for writer in (lost, begun):
        (writer.stream_dir / SESSION_FILE).unlink()
    refused: list[OSError] = []
    assert list(find_streams(tmp_path, refused.append)) == [whole.stream_dir]
    assert refused == []  # its writer lives: the description is about to come
    for writer in (whole, lost, begun):
        writer.close()
    (begun.stream_dir / "frames-000000.seg").write_bytes(bytes(100))
    assert list(find_streams(tmp_path, refused.append)) == [whole.stream_dir]
    assert [error.filename for error in refused] == [str(lost.stream_dir / SESSION_FILE)]
    assert "move its folder out of the spool" in str(refused[0])
