"""A repair that finds no room for what it writes."""

import av
import pytest
from teleop_dataset.repair import rebuild, repair


class OnAFullDisk:
    """A repair whose first write fails, as FFmpeg says it."""

    def __init__(self, *_) -> None:
        pass

    def run(self) -> None:
        with av.open("/dev/full", "w", format="mp4") as full:
            stream = full.add_stream("libx264", rate=30)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            full.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
            full.mux(stream.encode(None))


def test_a_full_disk_is_no_damage(tmp_path, monkeypatch):
    """That nothing can be written is not that nothing can be read."""
    monkeypatch.setattr(rebuild, "_Repair", OnAFullDisk)
    with pytest.raises(OSError, match="No space left"):
        repair(tmp_path, tmp_path / "repaired")
    assert not (tmp_path / "repaired").exists()
