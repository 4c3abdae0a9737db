"""`python -m teleop_dataset.repair <source> <target>`: prints the report; 1 if nothing came back, else 0.

It also exits with 0 if the source is sound; then it writes nothing.
"""

import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from teleop_schema.commands.command_line import Parser
from teleop_schema.errors import BackendError
from teleop_schema.words import shown, shown_lines

from teleop_dataset.repair import Decoding, find_sound, repair

# A small dataset has been decoded by then.
PROGRESS_S = 5.0
# Of the machine's memory: on a robot PC the recorder needs its own, and a dataset of strangers may want any.
MEMORY_PART = 2


class Progress:
    """Says on stderr now and then how far the pictures are decoded, because that can take hours.

    clock  seconds, of any origin
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._said_s: float | None = None

    def __call__(self, decoded: int, total: int) -> None:
        if self._said_s is None:
            self._said_s = self._clock()
        if self._clock() - self._said_s >= PROGRESS_S:
            self._said_s = self._clock()
            print(
                f"decoding every picture to find damaged ones: {decoded} of {total}",
                file=sys.stderr,
                flush=True,
            )


def main(arguments: list[str] | None = None) -> int:
    """Repair the dataset that the command line names."""
    parser = Parser(prog="teleop_dataset.repair", description="Repair a dataset.")
    parser.add_argument("source", type=Path, help="folder of the torn dataset, which is only read")
    parser.add_argument("target", type=Path, help="folder for the repaired dataset")
    parser.add_argument("--info", type=Path, help="an earlier meta/info.json, if the dataset's own is torn")
    options = parser.parse_args(arguments)
    try:
        decoding = Decoding(Progress(time.monotonic))
        with _bounded_memory():
            if sound := find_sound(options.source, decoding):
                print(shown_lines(sound.as_text()))
                return 0
            report = repair(options.source, options.target, earlier_info=options.info, decoding=decoding)
    except BackendError as error:
        print(shown(error.detail if error.hint is None else f"{error.detail}; {error.hint}"), file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{error.filename or options.target}: {error.strerror or error}", file=sys.stderr)
        return 1
    print(shown_lines(report.as_text()))
    return 0 if report.whole else 1


@contextmanager
def _bounded_memory() -> Iterator[None]:
    """Within the block, what would take more than MEMORY_PART of the machine raises MemoryError. On Linux."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    page_bytes = resource.getpagesize()
    with suppress(OSError, ValueError):
        taken = int(Path("/proc/self/statm").read_text().split()[0])
        limit = (taken + os.sysconf("SC_PHYS_PAGES") // MEMORY_PART) * page_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


if __name__ == "__main__":
    sys.exit(main())
