"""mp4 files from pictures that are compressed already."""

import io

import av
import numpy as np
import pytest
from teleop_export.making import mp4_writer
from teleop_export.making.mp4_writer import Mp4Writer

SIZE = (48, 64)
FPS = 30
PICTURES = 40


@pytest.fixture(scope="module")
def filmed():
    """Pictures of H.264 as an mp4 has them, and the box `stsd` that describes them."""
    memory = io.BytesIO()
    with av.open(memory, "w", format="mp4") as container:
        stream = container.add_stream("libx264", FPS, options={"g": "1", "tune": "zerolatency"})
        stream.height, stream.width = SIZE
        for number in range(PICTURES):
            grey = np.full((*SIZE, 3), number * 6, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode(None))
    content = memory.getvalue()
    begin = content.index(b"stsd") - 4
    description = content[begin : begin + int.from_bytes(content[begin : begin + 4])]
    with av.open(io.BytesIO(content)) as container:
        return description, [bytes(packet) for packet in container.demux(video=0) if packet.size]


@pytest.mark.parametrize("by_kernel", [True, False])
def test_copied_pictures_are_shown(filmed, by_kernel, tmp_path, monkeypatch):
    """With the kernel's help or without, whatever lies before them in the file that they are copied from."""
    if by_kernel and not mp4_writer._IS_LINUX:
        pytest.skip("this kernel does not copy from file to file")
    monkeypatch.setattr(mp4_writer, "_IS_LINUX", by_kernel)
    monkeypatch.setattr(mp4_writer, "MOVED_BYTES", 100)
    description, pictures = filmed
    (tmp_path / "segment").write_bytes(b"before" + b"".join(pictures))
    sizes = np.array([len(picture) for picture in pictures])
    writer = Mp4Writer(
        tmp_path / "made.mp4", description[8:], size=SIZE, fps=FPS, delay=0, room=len(pictures)
    )
    with (tmp_path / "segment").open("rb") as segment:
        assert writer.copy(segment.fileno(), 6, int(sizes.sum()))
        assert not writer.copy(segment.fileno(), 6 + int(sizes.sum()), 1)
    writer.add(sizes, np.ones(len(sizes), np.bool_))
    writer.close()
    with av.open(str(tmp_path / "made.mp4")) as container:
        shown = [int(frame.to_ndarray(format="gray").mean()) for frame in container.decode(video=0)]
    assert len(shown) == PICTURES
    assert shown == sorted(shown)
    assert shown[-1] - shown[0] > 100
