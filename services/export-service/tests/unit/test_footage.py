"""Files of a camera's recording, fetched before they are needed."""

import threading
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path

import av
import numpy as np
from teleop_export.making.picture_file import PictureFile
from teleop_export.making.video_source import FETCHED_AHEAD, OPEN_SEGMENTS, CameraPictures
from teleop_export.sessions.video_chunks import VideoChunk
from teleop_testing.waiting import PATIENCE_S

PICTURES, CHUNKS = 10, 20


class Fetching:
    """A store that notes which objects were asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.asked: list[int] = []
        self.changed = threading.Condition()

    def as_file(self, sha256: str) -> AbstractContextManager[Path]:
        with self.changed:
            self.asked.append(int(sha256))
            self.changed.notify_all()
        return nullcontext(self._path)

    def wait_for(self, chunks: set[int]) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: chunks <= set(self.asked), PATIENCE_S), self.asked


def recording(tmp_path: Path) -> tuple[CameraPictures, Fetching]:
    """CHUNKS files of PICTURES each."""
    path = tmp_path / "chunk.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for _ in range(PICTURES):
            container.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(stream.encode(None))
    taken = datetime(2026, 1, 1, tzinfo=UTC)
    chunks = [
        VideoChunk(
            id=number,
            chunk_index=number,
            sha256=str(number),
            size_bytes=1,
            start=taken,
            end=taken,
            frame_count=PICTURES,
            frame_indices=np.arange(PICTURES) + number * PICTURES,
            captured_us=np.arange(PICTURES) + number * PICTURES,
            dropped=(),
            fps=30.0,
            codec="h264",
            pix_fmt="yuv420p",
            width=64,
            height=48,
            unusable=None,
        )
        for number in range(CHUNKS)
    ]
    fetching = Fetching(path)
    return CameraPictures(chunks, fetching, PictureFile), fetching


def pictures_of(*chunks: int) -> np.ndarray:
    return np.concatenate([np.arange(PICTURES) + chunk * PICTURES for chunk in chunks])


def test_files_are_fetched_once_and_ahead(tmp_path):
    """While the first is worked on, the next ones come; none comes twice, none that is not needed."""
    footage, fetching = recording(tmp_path)
    parts = footage.parts(pictures_of(2, 3, 5))
    next(parts)
    fetching.wait_for({2, 3, 5})
    assert len(list(parts)) == 2
    footage.close()
    assert sorted(fetching.asked) == [2, 3, 5]


def test_those_of_the_next_episode_come_before_it_is_asked_for(tmp_path):
    """As many as are ever fetched ahead, wherever in the recording it lies; none comes twice."""
    footage, fetching = recording(tmp_path)
    list(footage.parts(pictures_of(0, 1), then=pictures_of(1, *range(9, CHUNKS))))
    ahead = set(range(9, 9 + FETCHED_AHEAD - 1))
    fetching.wait_for(ahead)
    list(footage.parts(pictures_of(1, *sorted(ahead))))
    footage.close()
    assert sorted(fetching.asked) == [0, 1, *sorted(ahead)]
    assert len(fetching.asked) <= OPEN_SEGMENTS
