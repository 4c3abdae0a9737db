"""What depth of 640x480 takes: processor time and bytes of a picture, beside those of LeRobot's own recorder.

Both get the same pictures: a scene that moves, with a sensor's noise that grows with the distance, and holes
where it measured nothing. Ours are what the robot's encoder process does with each: quantise and compress it.
LeRobot's is its writer's streaming encoder (the frames of an episode, quantised and encoded in a thread); its
default way writes them as TIFF files first, and takes more.
"""

import tempfile
import time
from io import BytesIO
from pathlib import Path

import av
import numpy as np
from figures import Figure, at_most
from lerobot.datasets.video_utils import StreamingVideoEncoder
from lerobot_robot_backend.video.codec import PictureEncoder, write_mp4
from lerobot_robot_backend.video.picture_kind import PictureKind
from lerobot_robot_virtual.arm import VirtualArm
from lerobot_robot_virtual.scene import as_depth, render

HEIGHT, WIDTH = 480, 640
FPS = 30
PICTURES = 60
# Deviation of a depth camera's pixel at 1 m; it grows with the square of the distance.
NOISE_MM = 2.0
HOLES = 0.02
# LeRobot's encoder, of the same pictures: so much of its time, and bytes of all pictures being keyframes.
TIME_SHARE, BYTES_SHARE = 0.4, 1.3


def run() -> list[Figure]:
    """Bytes and processor time of both, and what ours are of LeRobot's."""
    pictures = _pictures()
    with tempfile.TemporaryDirectory() as folder:
        ours, ours_s = _ours(Path(folder) / "ours.mp4", pictures)
        theirs, theirs_s = _lerobots(Path(folder), pictures)
        same = all(np.array_equal(*pair) for pair in zip(_decoded(ours), _decoded(theirs), strict=True))
        sizes = [path.stat().st_size / PICTURES / 1e3 for path in (ours, theirs)]
    ms = [1e3 * taken_s / PICTURES for taken_s in (ours_s, theirs_s)]
    return [
        Figure("depth, processor time of a picture", ms[0], "ms"),
        Figure("… of LeRobot's encoder", ms[1], "ms"),
        at_most("… ours of LeRobot's", ms[0] / ms[1], "", TIME_SHARE),
        Figure("depth at 30 pictures/s, share of a core", ms[0] * FPS / 10, "%"),
        Figure("depth, bytes of a picture", sizes[0], "kB"),
        Figure("… of LeRobot's encoder", sizes[1], "kB"),
        at_most("… ours of LeRobot's", sizes[0] / sizes[1], "", BYTES_SHARE),
        at_most("pictures that differ from LeRobot's", 0 if same else PICTURES, "pictures", 0),
    ]


def _pictures() -> list[np.ndarray]:
    noise, arm, found = np.random.default_rng(0), VirtualArm(), []
    for number in range(PICTURES):
        depth = as_depth(render("front", arm.positions, number, height=HEIGHT, width=WIDTH)).astype(float)
        depth += noise.normal(0, NOISE_MM, depth.shape) * (depth / 1000) ** 2
        depth[noise.random((HEIGHT // 8, WIDTH // 8)).repeat(8, 0).repeat(8, 1) < HOLES] = 0
        found.append(depth.round().clip(0, 65_535).astype(np.uint16))
    return found


def _ours(path: Path, pictures: list[np.ndarray]) -> tuple[Path, float]:
    begun_s = time.process_time()
    encoder = PictureEncoder(HEIGHT, WIDTH, FPS, "high", PictureKind.DEPTH_MM)
    packets = [encoder.encode(picture) for picture in pictures]
    write_mp4(path, BytesIO(b"".join(packets)), len(packets), FPS, depth=True)
    return path, time.process_time() - begun_s


def _lerobots(folder: Path, pictures: list[np.ndarray]) -> tuple[Path, float]:
    begun_s = time.process_time()
    encoder = StreamingVideoEncoder(FPS, queue_maxsize=PICTURES)
    encoder.start_episode(["depth"], folder, depth_video_keys=["depth"])
    for picture in pictures:
        encoder.feed_frame("depth", picture)
    path, _ = encoder.finish_episode()["depth"]
    taken_s = time.process_time() - begun_s
    encoder.close()
    return Path(path), taken_s


def _decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="gray12le") for frame in file.decode(video=0)]
