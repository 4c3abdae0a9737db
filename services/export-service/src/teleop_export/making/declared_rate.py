"""The rate that a video's own headers declare, made that of its file. Blocks.

A camera of 15 pictures a second has that rate in its parameter sets, too (VUI: ITU-T H.264, E.2.1; H.265,
E.3.1). In a dataset of 30 rows a second each picture is there twice, and FFmpeg 5.1, which takes a picture's
duration from there, showed the first one three times and all others a row late.
"""

import tempfile
from contextlib import closing
from pathlib import Path

import av
from av.bitstream import BitStreamFilterContext
from teleop_dataset.errors import BrokenFile
from teleop_dataset.media import open_mp4, video_of
from teleop_dataset.mp4_samples import samples_of

# A tick is half a picture in H.264, where pictures may come as two fields.
_FILTERS = {"h264": ("h264_metadata", 2), "hevc": ("hevc_metadata", 1)}

# Of the entry's own name, which tells where decoders look for parameter sets: that stays.
_NAME_AT = 12


def description_at(path: Path, codec: str, fps: int, *, without: bytes) -> bytes:
    """What `stsd` says of the pictures in the mp4 at `path`, with `fps` as their rate.

    without  what it says now, which is the answer for pictures that declare no rate in this way, or whose
             parameter sets can't be read
    """
    if codec not in _FILTERS:
        return without
    name, ticks = _FILTERS[codec]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "one.mp4")
        try:
            with closing(open_mp4(path)) as source, closing(av.open(str(copy), "w")) as target:
                stream = video_of(source)
                out = target.add_stream_from_template(stream, opaque=True)
                metadata = BitStreamFilterContext(f"{name}=tick_rate={fps * ticks}", stream, out)
                for packet in metadata.filter(next(source.demux(stream))):
                    packet.stream = out
                    target.mux(packet)
            found = samples_of(copy).description
            return found[:_NAME_AT] + without[_NAME_AT : _NAME_AT + 4] + found[_NAME_AT + 4 :]
        except (av.FFmpegError, BrokenFile, ValueError):
            return without
