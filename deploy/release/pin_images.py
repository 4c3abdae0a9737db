"""Names the images that ours begin with, and those that run beside them, by their digests: `make pin`.

A tag moves: the same Dockerfile gives other images a month later. `name:tag@sha256:…` does not, and still
says what it is. Docker is asked, which pulls each of them; run it again to move to what the tags name then.
`--check` fails if this commit is a release, having the tag of its version, and an image has no digest.
"""

import argparse
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PLACES = (
    "deploy/image/Dockerfile",
    "deploy/setup/Dockerfile",
    "deploy/proxy/Dockerfile",
    "compose.yaml",
    "deploy/helm/lerobot-backend/values.yaml",
)
# Others' images have a tag; ours have the version of the release, and stages have neither.
IMAGE = re.compile(
    r"^(FROM |\s+image: )(?!lerobot-backend/)([\w./-]+:[\w.-]+)(@sha256:[0-9a-f]{64})?(?=\s|$)", re.M
)


def main() -> None:
    """Write the digests and print them, or check that they are there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    if not parser.parse_args().check:
        pin()
    elif (loose := loose_images()) and is_release():
        sys.exit(f"a release names images by their digests (make pin, then tag that): {', '.join(loose)}")


def pin() -> None:
    """Write the digest of each image behind its tag."""
    digests = {name: digest_of(name) for name in sorted({name for _, name, _ in images()})}
    for place in PLACES:
        path = REPOSITORY / place
        pinned = IMAGE.sub(lambda found: f"{found[1]}{found[2]}@{digests[found[2]]}", path.read_text())
        path.write_text(pinned)
    for name, digest in digests.items():
        print(f"{name}@{digest}")


def images() -> Iterator[tuple[str, str, str | None]]:
    """Place, name with its tag, and digest of each image that is named; None: the tag alone."""
    for place in PLACES:
        for found in IMAGE.finditer((REPOSITORY / place).read_text()):
            yield place, found[2], found[3]


def loose_images() -> list[str]:
    """Those that are named by a tag alone, with where."""
    return sorted({f"{name} in {place}" for place, name, digest in images() if digest is None})


def digest_of(name: str) -> str:
    """`sha256:…` of what the registry has under the name now; SystemExit with Docker's words if nothing."""
    inspect = ["image", "inspect", "--format", "{{json .RepoDigests}}", name]
    for command in (["pull", "--quiet", name], inspect):
        done = subprocess.run(["docker", *command], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"docker {' '.join(command)}: {done.stderr.strip()}")
    found = re.findall(r"@(sha256:[0-9a-f]{64})$", "\n".join(json.loads(done.stdout) or []), re.M)
    if not found:
        sys.exit(f"{name} comes from no registry, so it has no digest")
    return str(found[0])


def is_release() -> bool:
    """Whether this commit has the tag of its version."""
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    command = ["git", "tag", "--points-at", "HEAD"]
    tags = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False).stdout
    return f"v{version}" in tags.split()


if __name__ == "__main__":
    main()
