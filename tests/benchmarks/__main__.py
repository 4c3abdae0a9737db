"""Run the benchmarks: `python tests/benchmarks [name …] [--json FILE]`; prints a table per benchmark."""

import argparse
import importlib
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table
from teleop_testing.machine.priority import renounce_real_time

NAMES = (
    "loop",
    "cameras",
    "depth",
    "ingest",
    "fleet",
    "fairness",
    "flags",
    "upload",
    "backup",
    "importing",
    "export",
    "export_video",
    "confinement",
)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the backend side by side with its alternatives.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"which to run, of {', '.join(NAMES)}; all")
    parser.add_argument("--json", type=Path, default=Path("bench.json"), help="where the figures go as JSON")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(NAMES):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    renounce_real_time()
    results = {}
    for name in arguments.names or NAMES:
        figures = importlib.import_module(name).run()
        results[name] = [figure.as_json() for figure in figures]
        show(name, figures)
    arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    print(f"figures written to {arguments.json}", file=sys.stderr)


def show(name: str, figures: list) -> None:
    table = Table(title=name, title_justify="left")
    table.add_column("measured")
    table.add_column("value", justify="right")
    table.add_column("unit")
    table.add_column("aim")
    for figure in figures:
        mark = "" if figure.reached is None else " reached" if figure.reached else " missed"
        table.add_row(
            figure.name,
            f"{figure.value:,.4g}" if figure.value < 1000 else f"{figure.value:,.0f}",
            figure.unit,
            (figure.aim or "") + mark,
        )
    Console().print(table)


if __name__ == "__main__":
    main()
