"""Opens video and pictures that nobody vouches for: one format, one file, known codecs, sizes as declared.

FFmpeg knows hundreds of formats and codecs. Some of its formats name further files or addresses, which it
opens. A picture within a file may be larger than the file says, which costs memory before anybody sees it.
"""

import io
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from teleop_dataset.errors import BrokenFile

FORMAT = "mp4"
# As FFmpeg calls the codecs; LeRobot writes the first three.
CODECS = ("h264", "hevc", "av1", "vp9", "mjpeg", "ffv1")
# Their decoders. FFmpeg tries some when it opens a file, before anybody can look at what it holds.
DECODERS = "h264,hevc,libdav1d,av1,vp9,libvpx-vp9,mjpeg,ffv1"
# 16k by 8k; a decoder allocates several bytes per pixel, several times.
MAX_PIXELS = 16_384 * 8_192
# Codecs store pictures in blocks with sides of up to this many pixels.
CODED_MARGIN = 128

# What single pictures in rows begin with, and FFmpeg's format for a file of one.
PICTURES = {
    b"\x89PNG\r\n\x1a\n": "png_pipe",
    b"\xff\xd8\xff": "jpeg_pipe",
    b"II*\0": "tiff_pipe",
    b"MM\0*": "tiff_pipe",
}


def open_mp4(source: Path | io.RawIOBase | io.BytesIO, **options: str) -> InputContainer:
    """An mp4, to be closed.

    source   where it is, or the open file itself; then FFmpeg opens no file at all
    options  more of FFmpeg's
    raises   FFmpegError, OSError
    """
    protocols = "file" if isinstance(source, Path) else ""
    limits = {"protocol_whitelist": protocols, "codec_whitelist": DECODERS, "max_pixels": str(MAX_PIXELS)}
    file = str(source) if isinstance(source, Path) else source
    return av.open(file, "r", format=FORMAT, options=limits | options)


def video_of(file: InputContainer) -> VideoStream:
    """The file's pictures; raises BrokenFile if it has none, or with a codec that is not among CODECS."""
    if not file.streams.video:
        raise BrokenFile("the mp4 holds no video")
    stream = file.streams.video[0]
    codec = stream.codec_context.codec.canonical_name if stream.codec_context else "unknown"
    if codec not in CODECS:
        raise BrokenFile(f"its pictures are {codec}; known are {', '.join(CODECS)}")
    return stream


def decoder_limits(height: int, width: int) -> dict[str, str]:
    """Options of a decoder of pictures of that size: it refuses larger ones before it allocates anything."""
    return {"max_pixels": str((height + CODED_MARGIN) * (width + CODED_MARGIN))}


def check_size(frame: av.VideoFrame, height: int, width: int) -> None:
    """Raise BrokenFile unless the frame has the size that its file declares."""
    if (frame.height, frame.width) != (height, width):
        raise BrokenFile(f"a picture is {frame.width}x{frame.height}, but the file declares {width}x{height}")


def open_picture(encoded: bytes) -> InputContainer:
    """A single picture that is stored as a file of its own (PNG, JPEG, TIFF), to be closed; raises
    FFmpegError, BrokenFile for any other."""
    kind = next((kind for begin, kind in PICTURES.items() if encoded.startswith(begin)), None)
    if kind is None:
        raise BrokenFile("it is not a picture in PNG, JPEG or TIFF")
    limits = {"protocol_whitelist": "", "max_pixels": str(MAX_PIXELS)}
    return av.open(io.BytesIO(encoded), "r", format=kind, options=limits)
