from fractions import Fraction

import av
import numpy as np
import pytest
from teleop_dataset.errors import BrokenFile
from teleop_dataset.media import check_size, decoder_limits, open_mp4, open_picture, video_of
from teleop_testing.datasets.files import growing_video


def write_video(path, codec, *, pix_fmt="yuv420p", container="mp4"):
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, pix_fmt
        for number in range(2):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number, np.uint8), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("codec", "pix_fmt"),
    [("libx264", "yuv420p"), ("libx265", "yuv420p"), ("libsvtav1", "yuv420p"), ("mjpeg", "yuvj420p")],
)
def test_known_codecs_are_read(tmp_path, codec, pix_fmt):
    """Those that LeRobot and cameras write."""
    with open_mp4(write_video(tmp_path / "a.mp4", codec, pix_fmt=pix_fmt)) as file:
        stream = video_of(file)
        stream.codec_context.options = decoder_limits(48, 64)
        for frame in file.decode(stream):
            check_size(frame, 48, 64)


def test_another_codec_is_not_decoded(tmp_path):
    """FFmpeg has hundreds of decoders, and each is open to attack."""
    with (
        open_mp4(write_video(tmp_path / "a.mp4", "mpeg4")) as file,
        pytest.raises(BrokenFile, match="its pictures are mpeg4; known are h264"),
    ):
        video_of(file)


@pytest.mark.parametrize(
    "content",
    [
        b"#EXTM3U\n#EXTINF:1,\nhttp://localhost:9/a.ts\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"<html></html>",
        b"",
    ],
)
def test_what_names_other_files_is_no_video(tmp_path, content):
    """Whatever its own name is."""
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(av.FFmpegError):
        open_mp4(tmp_path / "a.mp4")
    with pytest.raises(BrokenFile, match="not a picture in PNG, JPEG or TIFF"):
        open_picture(content)


def test_another_container_is_not_opened(tmp_path):
    """Only what the backend itself stores as video."""
    with pytest.raises(av.FFmpegError):
        open_mp4(write_video(tmp_path / "a.mp4", "libx264", container="matroska"))


@pytest.mark.parametrize(("codec", "pix_fmt"), [("png", "rgb24"), ("mjpeg", "yuvj420p"), ("tiff", "rgb24")])
def test_pictures_in_rows(codec, pix_fmt):
    """As LeRobot's features of dtype image keep them."""
    encoder = av.CodecContext.create(codec, "w")
    encoder.height, encoder.width, encoder.pix_fmt, encoder.time_base = 48, 64, pix_fmt, Fraction(1, 10)
    frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24").reformat(
        format=pix_fmt
    )
    encoded = b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
    with open_picture(encoded) as file:
        check_size(next(file.decode(video=0)), 48, 64)


def written(folder, content):
    (folder / "a.mp4").write_bytes(content)
    return folder / "a.mp4"


@pytest.mark.parametrize(("later", "refused"), [((4096, 4096), av.FFmpegError), ((64, 64), BrokenFile)])
def test_pictures_larger_than_declared_are_refused(tmp_path, later, refused):
    """Much larger ones by the decoder, before it takes memory for them; a bit larger ones once decoded."""
    with open_mp4(written(tmp_path, growing_video([(48, 64)] * 3 + [later]))) as file:
        stream = video_of(file)
        stream.codec_context.options = decoder_limits(48, 64)
        with pytest.raises(refused):
            all(check_size(frame, 48, 64) is None for frame in file.decode(stream))


def test_an_empty_file_of_video(tmp_path):
    """Has no pictures to decode."""
    with av.open(str(tmp_path / "a.mp4"), "w") as file:
        stream = file.add_stream("aac", rate=48_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48_000
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    with open_mp4(tmp_path / "a.mp4") as file, pytest.raises(BrokenFile, match="the mp4 holds no video"):
        video_of(file)


def test_bytes_cut_off_are_no_picture():
    """A PNG of which only the beginning is there."""
    with pytest.raises(av.FFmpegError), open_picture(b"\x89PNG\r\n\x1a\n" + bytes(20)) as file:
        next(file.decode(video=0))
