"""`python -m teleop_dataset.repair <source> <target>`: prints the report; 1 if nothing came back, else 0.

It also exits with 0 if the source is sound; then it writes nothing.
"""

import sys
from pathlib import Path

from teleop_schema.commands.command_line import Parser
from teleop_schema.errors import BackendError

from teleop_dataset.repair import find_sound, repair


def main(arguments: list[str] | None = None) -> int:
    """Repair the dataset that the command line names."""
    parser = Parser(prog="teleop_dataset.repair", description="Repair a dataset.")
    parser.add_argument("source", type=Path, help="folder of the torn dataset, which is only read")
    parser.add_argument("target", type=Path, help="folder for the repaired dataset")
    parser.add_argument("--info", type=Path, help="an earlier meta/info.json, if the dataset's own is torn")
    options = parser.parse_args(arguments)
    try:
        if sound := find_sound(options.source):
            print(sound.as_text())
            return 0
        report = repair(options.source, options.target, earlier_info=options.info)
    except BackendError as error:
        print(error.detail if error.hint is None else f"{error.detail}; {error.hint}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{error.filename or options.target}: {error.strerror or error}", file=sys.stderr)
        return 1
    print(report.as_text())
    return 0 if report.whole else 1


if __name__ == "__main__":
    sys.exit(main())
