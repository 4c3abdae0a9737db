"""What the package itself offers: names that type checkers know; they cost nothing until they are used."""

import subprocess
import sys
from pathlib import Path

import lerobot_robot_backend
import pytest
from mypy import api
from teleop_testing.waiting import PATIENCE_S

LIBS = Path(__file__).parents[3]


def test_every_name_is_there():
    """What `__all__` lists can be imported; what it does not list can't."""
    for name in lerobot_robot_backend.__all__:
        assert getattr(lerobot_robot_backend, name).__name__ == name
    with pytest.raises(ImportError, match="TelemetryCleint"):
        from lerobot_robot_backend import TelemetryCleint  # noqa: F401


def test_type_checkers_refuse_a_misspelt_name(tmp_path, monkeypatch):
    """A name that is not there is refused, not taken as anything; those that are there have their types."""
    names = ", ".join(lerobot_robot_backend.__all__)
    lines = [
        f"from lerobot_robot_backend import {names}",
        "from lerobot_robot_backend import TelemetryCleint",
        "reveal_type(TelemetryClient)",
    ]
    monkeypatch.setenv("MYPYPATH", f"{LIBS}/robot/src:{LIBS}/schema/src")
    # Other packages than these two are not looked into: only what is said of them here counts.
    options = ["--config-file=", f"--cache-dir={tmp_path}", "--ignore-missing-imports", "--no-site-packages"]
    told, _, _ = api.run([*options, "-c", "\n".join(lines)])
    assert '<string>:2: error: Module "lerobot_robot_backend" has no attribute "TelemetryCleint"' in told
    assert '<string>:3: note: Revealed type is "def (' in told
    assert "<string>:1" not in told


def test_importing_it_imports_nothing_else():
    """LeRobot's commands import every plugin, also those that record nothing."""
    code = "import sys, lerobot_robot_backend; print(*sys.modules)"
    words = [sys.executable, "-c", code]
    loaded = subprocess.run(words, timeout=PATIENCE_S, check=True, capture_output=True, text=True).stdout
    roots = {name.partition(".")[0] for name in loaded.split()}
    ours = {name for name in loaded.split() if name.startswith("lerobot_robot_backend")}
    assert ours == {"lerobot_robot_backend"}
    assert not roots & {"asyncio", "msgspec", "numpy", "av", "lerobot", "teleop_schema"}
