"""How far an export is, for people and for logs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from teleop_schema.words import shown
from tqdm import tqdm

from teleop_client.exporting import exports

_WORDS = {
    "data": "reading and writing frames",
    "video": "copying video",
    "statistics": "exact statistics",
    "verify": "verifying",
    "download": "downloading",
    "push": "pushing to the Hub",
    "hashing": "reading the dataset",
    "upload": "uploading",
    "frames": "storing frames",
    "imported video": "looking into video",
}
_BAR = "{desc:<26} {bar:40} {percentage:3.0f} % {remaining}"


@contextmanager
def showing(output: TextIO) -> Iterator[exports.Progress]:
    """A bar per stage on a terminal, a line per finished stage elsewhere."""
    if not output.isatty():
        yield Lines(output)
        return
    bars = Bars(output)
    try:
        yield bars
    finally:
        bars.close()


class Bars:
    """Progress for people."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._bars: dict[str, tqdm] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage not in self._bars:
            self._bars[stage] = tqdm(desc=_words(stage), file=self._output, bar_format=_BAR)
        bar = self._bars[stage]
        bar.total = total
        bar.update(done - bar.n)

    def note(self, line: str) -> None:
        tqdm.write(shown(line), file=self._output)

    def close(self) -> None:
        """Leave the bars as they are now."""
        for bar in self._bars.values():
            bar.close()


class Lines:
    """Progress for logs."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._finished: set[str] = set()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if done >= total and stage not in self._finished:
            self._finished.add(stage)
            self.note(f"{_words(stage)}: done")

    def note(self, line: str) -> None:
        print(shown(line), file=self._output, flush=True)


def _words(stage: str) -> str:
    """What to call a stage; newer backends may have others."""
    return _WORDS.get(stage, shown(stage))
