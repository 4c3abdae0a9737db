"""`python -m teleop_dataset.repair <source> <target>`: prints the report; 1 if nothing came back, else 0."""

import argparse
import sys
from pathlib import Path

import msgspec
from teleop_schema.errors import BackendError

from teleop_dataset.repair import repair


def main(arguments: list[str] | None = None) -> int:
    """Repair the dataset that the command line names."""
    parser = argparse.ArgumentParser(prog="teleop_dataset.repair", description="Repair a dataset.")
    parser.add_argument("source", type=Path, help="folder of the torn dataset; it is only read")
    parser.add_argument("target", type=Path, help="folder to write the repaired one to")
    parser.add_argument("--info", type=Path, help="an earlier meta/info.json, if that of the dataset is torn")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    options = parser.parse_args(arguments)
    try:
        report = repair(options.source, options.target, earlier_info=options.info)
    except BackendError as error:
        print(error.detail if error.hint is None else f"{error.detail}; {error.hint}", file=sys.stderr)
        return 1
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    print(msgspec.json.encode(report).decode() if options.json else report.as_text())
    return 0 if report.whole else 1


if __name__ == "__main__":
    sys.exit(main())
