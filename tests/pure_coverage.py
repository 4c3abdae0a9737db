"""`make coverage`: which lines and branches of the pure modules their own package's tests run.

Exit status 1 if it is less than 95 % of any of them. Pure modules are those of the contract "Pure modules do
no I/O" in pyproject.toml. Only the tests of a module's own package count, because what a module promises is
tested beside it. Arguments are passed to pytest.
"""

import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coverage import Coverage

ROOT = Path(__file__).parent.parent
CONTRACT = "Pure modules do no I/O"
LEAST_PERCENT = 95.0
# One package's tests, measured, on a busy machine.
TIMEOUT_S = 2 * 3600.0
CONFIG = """
[run]
branch = true
parallel = true
patch = subprocess
data_file = {folder}/data
source_pkgs = {package}
"""


def pure_modules() -> dict[str, list[str]]:
    """The pure modules of each package, by their full names."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (modules,) = (
        contract["source_modules"]
        for contract in config["tool"]["importlinter"]["contracts"]
        if contract["name"] == CONTRACT
    )
    by_package: dict[str, list[str]] = defaultdict(list)
    for module in modules:
        by_package[module.partition(".")[0]].append(module)
    return by_package


def folder_of(package: str) -> Path:
    """The folder of a package and its tests."""
    (source,) = (*ROOT.glob(f"libs/*/src/{package}"), *ROOT.glob(f"services/*/src/{package}"))
    return source.parent.parent


@contextmanager
def measured(package: str, words: list[str]) -> Iterator[Coverage]:
    """Run the tests of a package; the processes that they start are measured, too."""
    with tempfile.TemporaryDirectory(prefix="coverage-") as folder:
        config = Path(folder) / "config"
        config.write_text(CONFIG.format(folder=folder, package=package))
        command = [sys.executable, "-m", "coverage", "run", f"--rcfile={config}", "-m", "pytest", "-q"]
        subprocess.run(
            [*command, folder_of(package) / "tests", *words], cwd=ROOT, check=True, timeout=TIMEOUT_S
        )
        coverage = Coverage(config_file=str(config))
        coverage.combine()
        yield coverage


def percent_of(coverage: Coverage, package: str, module: str) -> float:
    """How much of a module was run; prints the lines and branches that were not."""
    source = folder_of(package) / "src" / module.replace(".", "/")
    files = sorted(source.rglob("*.py")) if source.is_dir() else [source.with_suffix(".py")]
    print(f"\n{module}")
    return coverage.report(morfs=[str(file) for file in files], show_missing=True, skip_covered=True)


def main() -> int:
    """Exit status 1 if a module has too little."""
    percents: dict[str, float] = {}
    for package, modules in pure_modules().items():
        with measured(package, sys.argv[1:]) as coverage:
            percents |= {module: percent_of(coverage, package, module) for module in modules}
    print()
    for module, percent in sorted(percents.items(), key=lambda each: each[1]):
        print(f"{percent:6.1f} %  {module}")
    low = [module for module, percent in percents.items() if percent < LEAST_PERCENT]
    if low:
        print(f"below {LEAST_PERCENT:g} %: {', '.join(low)}", file=sys.stderr)
    return 1 if low else 0


if __name__ == "__main__":
    sys.exit(main())
