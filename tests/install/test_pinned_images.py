"""A release names the images that it is built of by their digests."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from teleop_testing.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]
PIN = ROOT / "deploy/release/pin_images.py"
DIGEST = "sha256:" + "5f" * 32
NAMES = {
    "python:3.12-slim-bookworm",
    "caddy:2",
    "postgres:18",
    "prom/prometheus:v3.5.0",
    "grafana/grafana:12.1.1",
}
# It knows one digest, and images that were made here.
DOCKER = f"""#!/bin/sh
case "$*" in
*made-here*) [ "$1" = pull ] || echo '[]' ;;
*no-such*) echo 'no such image' >&2; exit 1 ;;
pull*) ;;
*) eval name=\\$$#; echo "[\\"${{name%:*}}@{DIGEST}\\"]" ;;
esac
"""


@pytest.fixture
def pinning(monkeypatch, tmp_path):
    """The module, at work on a copy of what names images, with a docker of the test."""
    specification = importlib.util.spec_from_file_location("pin_images", PIN)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    for place in module.PLACES:
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        text = (ROOT / place).read_text()
        (tmp_path / place).write_text(module.IMAGE.sub(r"\1\2", text))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/docker").write_text(DOCKER)
    (tmp_path / "bin/docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    monkeypatch.setattr(module, "REPOSITORY", tmp_path)
    return module


def test_every_image_of_others_gets_its_digest(pinning, tmp_path):
    """Once, however often: stages, and images of ours, are left alone."""
    assert {name for _, name, _ in pinning.images()} == NAMES
    assert len(pinning.loose_images()) > len(NAMES)
    before = {place: (tmp_path / place).read_text() for place in pinning.PLACES}
    for _ in range(2):
        pinning.pin()
    assert pinning.loose_images() == []
    for place, text in before.items():
        assert (tmp_path / place).read_text().replace(f"@{DIGEST}", "") == text
        assert f"@{DIGEST}" in (tmp_path / place).read_text()


def test_nothing_is_written_without_a_digest(pinning):
    """Docker's own words, or that an image was made here."""
    with pytest.raises(SystemExit, match="no such image"):
        pinning.digest_of("no-such:1")
    with pytest.raises(SystemExit, match="comes from no registry"):
        pinning.digest_of("made-here:1")


def test_a_release_by_tags_alone_is_refused(pinning, tmp_path, monkeypatch):
    """A commit that has the tag of its version; of any other, wheels may be built."""

    def git(*words: str) -> None:
        who = ("-c", "user.name=t", "-c", "user.email=t@example.com")
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, timeout=PATIENCE_S)

    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    monkeypatch.setattr(sys, "argv", ["pin_images.py", "--check"])
    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", "all")
    pinning.main()
    git("tag", "v1.2.3")
    with pytest.raises(SystemExit, match=r"make pin.* caddy:2 in deploy/proxy/Dockerfile"):
        pinning.main()
    pinning.pin()
    pinning.main()
