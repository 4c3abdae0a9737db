"""`fuzz.py TARGET… --seconds N`: makes up bytes that reach ever more of a target's code, until one fails.

What it finds is kept beside the corpus, in `found/`, smallest first; once it is mended, it becomes one of the
corpus, which the tests try each time. All targets take a process each, because a failure ends one.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

from teleop_testing.waiting import PATIENCE_S

HERE = Path(__file__).parent
CORPUS, FOUND = HERE / "corpus", HERE / "found"
# Bytes of an input; what is longer is no more cunning.
MAX_BYTES = 4096
PACKAGES = ["teleop_schema", "teleop_dataset", "teleop_runtime", "teleop_telemetry", "teleop_video_ingest"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", help="all, if none is named")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        fuzz(options.targets[0], options.seconds)
        return
    failed = []
    for target in options.targets or sorted(path.name for path in CORPUS.iterdir()):
        command = [sys.executable, __file__, target, "--seconds", str(options.seconds), "--here"]
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=options.seconds + PATIENCE_S,
        )
        if done.returncode:
            failed.append(target)
            print(done.stdout)
        (tried,) = re.findall("number_of_executed_units: +([0-9]+)", done.stdout) or ["?"]
        print(f"{target}: {tried} inputs,", f"FAILED: {FOUND / target}" if done.returncode else "none fails")
    sys.exit(", ".join(failed) and f"failed: {', '.join(failed)}")


def fuzz(target: str, seconds: int) -> None:
    """Try one target in this process; ends it."""
    try:
        import atheris
    except ModuleNotFoundError:
        sys.exit("atheris, which makes up the bytes, has wheels for Linux on x86-64 only")

    with atheris.instrument_imports(include=[*PACKAGES, "lerobot_robot_backend"]):
        from targets import TARGETS
    found = FOUND / target
    found.mkdir(parents=True, exist_ok=True)
    atheris.Setup(
        [
            sys.argv[0],
            f"-max_total_time={seconds}",
            f"-max_len={MAX_BYTES}",
            f"-artifact_prefix={found}/",
            "-timeout=10",
            "-rss_limit_mb=1024",
            "-print_final_stats=1",
            "-verbosity=0",
            str(found),
            str(CORPUS / target),
        ],
        TARGETS[target],
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
