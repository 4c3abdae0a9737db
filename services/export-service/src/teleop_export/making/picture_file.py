"""One mp4 file of recorded pictures, packet by packet or decoded. Blocks."""

import io
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import av
import numpy as np
from av.bitstream import BitStreamFilterContext
from teleop_dataset.errors import BrokenFile
from teleop_dataset.media import check_size, decoder_limits, open_mp4, video_of
from teleop_dataset.mp4_samples import samples_in
from teleop_schema.words import counted

from teleop_export.errors import VideoUnreadable
from teleop_export.making.picture_table import PictureTable, VideoEncoding
from teleop_export.timing.loop_times import Integers

# Bit stream filters that put start codes where mp4 has lengths, and parameter sets before keyframes.
ANNEX_B = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}


# A camera of 15 pictures a second has that rate in its parameter sets, too (VUI: ITU-T H.264, E.2.1; H.265,
# E.3.1). In a dataset of 30 rows a second each picture is there twice, and FFmpeg 5.1, which takes from there
# how long one is shown, showed the first one three times and all others a row late.
# A tick is half a picture in H.264, where pictures may come as two fields.
_FILTERS = {"h264": ("h264_metadata", 2), "hevc": ("hevc_metadata", 1)}

# Of the entry's own name, which tells where decoders look for parameter sets: that stays.
_NAME_AT = 12


@dataclass(frozen=True)
class Kind:
    """How the pictures of a file are encoded, and a decoder of such pictures: opening one takes as long as
    decoding one of them."""

    encoding: VideoEncoding
    decoder: av.VideoCodecContext


class PictureFile(PictureTable):
    """One mp4 file of pictures, numbered from 0 in the order in which they are shown."""

    def __init__(self, source: Path | io.RawIOBase, kinds: dict[bytes, Kind] | None = None) -> None:
        """
        source  where it is, or the open file, which is closed with this
        kinds   by description, for files that are likely to be encoded alike: what is there is not looked
                for again, what is found is added
        raises  VideoUnreadable
        """
        name = source.name if isinstance(source, Path) else "the file"
        with ExitStack() as stack:
            try:
                file = source.open("rb", buffering=0) if isinstance(source, Path) else source
                self._file = stack.enter_context(file)
                samples = samples_in(self._file)
                known = {} if kinds is None else kinds
                if samples.description not in known:
                    known[samples.description] = _kind(self._file)
                self._kind = known[samples.description]
            except (OSError, IndexError, av.FFmpegError, BrokenFile) as error:
                raise VideoUnreadable(f"{name} can't be read as video: {error}") from error
            self._resources = stack.pop_all()
        shown = np.sort(samples.pts[samples.shown])
        hides = not samples.shown.all()
        super().__init__(
            encoding=self._kind.encoding,
            description=samples.description,
            keyframe=samples.keyframe,
            sizes=samples.size,
            offset=samples.offset,
            pictures=len(shown),
            hides=hides,
            # Only where pictures lie in the order in which they are shown can they be taken out one by one.
            in_order=not hides and bool((samples.pts == shown).all()),
        )
        self._pts, self._dts = samples.pts, samples.dts
        self._number = {pts: number for number, pts in enumerate(shown.tolist())}
        self._converter: Any = None

    def fileno(self) -> int:
        """The open file's descriptor."""
        return self._file.fileno()

    def description_at(self, fps: int) -> bytes:
        """What `stsd` says of the pictures, with another rate."""
        return _description_at(self._file, self.kind.codec, fps, without=self.description)

    def converted(self, numbers: Integers) -> Iterator[bytes]:
        """Pictures, ascending, as a decoder takes them that knows nothing but packets; what was asked for
        before is behind these."""
        filter_name = ANNEX_B.get(self.kind.codec)
        if filter_name is None:
            yield from (bytes(data) for _, data in self.packets(numbers))
            return
        if self._converter is None:
            self._file.seek(0)
            with closing(open_mp4(self._file)) as container:
                self._converter = BitStreamFilterContext(filter_name, video_of(container))
        for number, data in self.packets(numbers):
            packet = av.Packet(data)
            packet.is_keyframe = bool(self.keyframe[number])
            for converted in self._converter.filter(packet):
                yield bytes(converted)

    def decode(self, wanted: Integers) -> Iterator[tuple[int, av.VideoFrame]]:
        """The pictures of these numbers (ascending, each once), in their order; raises VideoUnreadable."""
        if not len(wanted):
            return
        decoder = self._kind.decoder
        left = set(wanted.tolist())
        try:
            for position in self._needed(wanted):
                packet = av.Packet(self._read(int(self.offset[position]), int(self.sizes[position])))
                packet.pts, packet.dts = int(self._pts[position]), int(self._dts[position])
                yield from self._chosen(decoder.decode(packet), left)
            yield from self._chosen(decoder.decode(None), left)
        except (av.FFmpegError, BrokenFile) as error:
            raise VideoUnreadable(f"a picture can't be decoded: {error}") from error
        finally:
            # The next file, which shares it, must not get what is left in it of this one.
            decoder.flush_buffers()
        if left:
            lost = counted(len(left), "picture")
            raise VideoUnreadable(f"{lost} can't be decoded, the first is number {min(left)}")

    def _needed(self, wanted: Integers) -> Iterator[int]:
        """Positions of the packets to decode, ascending: from the keyframe on that a picture builds upon."""
        if not self.in_order:
            # The order of showing does not tell which picture builds upon which: all of them are decoded.
            yield from range(len(self.sizes))
            return
        keyframes = np.flatnonzero(self.keyframe)
        reached = 0
        for number in wanted.tolist():
            before = np.searchsorted(keyframes, number, side="right") - 1
            start = int(keyframes[before]) if before >= 0 else 0
            yield from range(max(start, reached), number + 1)
            reached = number + 1

    def _chosen(self, frames: Sequence[av.VideoFrame], left: set[int]) -> Iterator[tuple[int, av.VideoFrame]]:
        for frame in frames:
            check_size(frame, *self.kind.size)
            number = self._number.get(frame.pts, -1) if frame.pts is not None else -1
            if number in left:
                left.discard(number)
                yield number, frame

    def close(self) -> None:
        """Close the file; its pictures can't be read any more."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _kind(file: io.RawIOBase) -> Kind:
    file.seek(0)
    with closing(open_mp4(file)) as container:
        stream = video_of(container)
        context = stream.codec_context
        # The container's own ends with the container; this one is shared by all files of the kind.
        decoder = av.CodecContext.create(stream.codec.name, "r")
        if not isinstance(decoder, av.VideoCodecContext):
            raise VideoUnreadable("the file holds no pictures")
        decoder.extradata = context.extradata
        decoder.options = decoder_limits(stream.height, stream.width)
        # With several threads FFmpeg holds as many pictures back; and each camera has a thread already.
        decoder.thread_count = 1
        encoding = VideoEncoding(
            codec=stream.codec.canonical_name,
            pix_fmt=context.pix_fmt or "",
            extradata=bytes(context.extradata or b""),
            size=(stream.height, stream.width),
        )
        return Kind(encoding, decoder)


def _description_at(file: io.RawIOBase, codec: str, fps: int, *, without: bytes) -> bytes:
    """What `stsd` says of the pictures in an open mp4, with `fps` as their rate.

    without  what it says now, which is the answer for pictures that declare no rate in this way, or whose
             parameter sets can't be read
    """
    if codec not in _FILTERS:
        return without
    name, ticks = _FILTERS[codec]
    copy = io.BytesIO()
    file.seek(0)
    try:
        with closing(open_mp4(file)) as source, closing(av.open(copy, "w", format="mp4")) as target:
            stream = video_of(source)
            out = target.add_stream_from_template(stream, opaque=True)
            metadata = BitStreamFilterContext(f"{name}=tick_rate={fps * ticks}", stream, out)
            for packet in metadata.filter(next(source.demux(stream))):
                packet.stream = out
                target.mux(packet)
        found = samples_in(copy).description
        return found[:_NAME_AT] + without[_NAME_AT : _NAME_AT + 4] + found[_NAME_AT + 4 :]
    except (av.FFmpegError, BrokenFile, ValueError):
        return without
