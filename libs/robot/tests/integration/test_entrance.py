"""What goes wrong while LeRobot imports the plugin: it swallows exceptions there and runs the command."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from teleop_testing.waiting import PATIENCE_S

FLAGS = ["--backend_url=ws://localhost:8000", "--robot_id=robot_A"]
# As LeRobot imports plugins, and then moves its robot.
COMMAND = """
import sys
sys.modules.update(dict.fromkeys(BROKEN))

def register_third_party_plugins():
    try:
        import lerobot_robot_backend
    except Exception as error:
        print("swallowed", error)

register_third_party_plugins()
print("the robot moves")
"""
# Root may enter and write every folder, unless it lets go of that.
WITHOUT_POWERS = (
    ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    if os.geteuid() == 0 and shutil.which("setpriv")
    else []
)


def lerobot_command(
    flags: Sequence[str], *, broken: Sequence[str] = (), **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run it; `broken` are modules that can't be imported."""
    script = COMMAND.replace("BROKEN", repr(list(broken)))
    return subprocess.run(
        [*WITHOUT_POWERS, sys.executable, "-c", script, *flags],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def file(place: Path) -> Path:
    place.write_text("not a folder")
    return place


def dangling_link(place: Path) -> Path:
    place.symlink_to(place.with_name("nowhere"))
    return place


def not_to_be_entered(place: Path) -> Path:
    place.mkdir(mode=0o000)
    return place / "spool"


def not_to_be_written(place: Path) -> Path:
    place.mkdir(mode=0o500)
    return place


def of_another_user(place: Path) -> Path:
    """The robot's own folder is, for somebody recorded with sudo before."""
    (place / "robot_A").mkdir(parents=True, mode=0o500)
    return place


REFUSED_TO_ALL_BUT_ROOT = pytest.mark.skipif(
    not WITHOUT_POWERS and os.geteuid() == 0, reason="root may write everywhere"
)


@pytest.mark.parametrize(
    "spoil",
    [
        file,
        dangling_link,
        *(
            pytest.param(spoil, marks=REFUSED_TO_ALL_BUT_ROOT)
            for spoil in (not_to_be_entered, not_to_be_written, of_another_user)
        ),
    ],
)
def test_spool_that_takes_nothing_ends_the_command(tmp_path, spoil: Callable[[Path], Path]):
    """One line that names the folder and the remedy, exit code 2, and the robot does not move."""
    spool = spoil(tmp_path / "there")
    ended = lerobot_command(FLAGS, LEROBOT_BACKEND_SPOOL=str(spool))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"error: can't record into {spool}/robot_A: ")
    assert "LEROBOT_BACKEND_SPOOL" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_home_of_nobody_ends_the_command():
    """A spool in the home of a user whom the computer does not know."""
    ended = lerobot_command(FLAGS, LEROBOT_BACKEND_SPOOL="~nobody-at-all/spool")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("error: there is no folder ~nobody-at-all/spool for samples: ")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("module", ["msgspec", "lerobot_robot_backend.lerobot.tap"])
def test_broken_plugin_ends_a_command_with_its_flags(tmp_path, module):
    """Whatever fails, at the first import or the last: the reason is the last line, and the robot stays."""
    ended = lerobot_command(FLAGS, broken=[module], LEROBOT_BACKEND_SPOOL=str(tmp_path))
    assert (ended.returncode, ended.stdout) == (2, "")
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("error: the backend's plugin can't be started: ModuleNotFoundError: ")
    assert module in last
    assert "install" in last


def test_broken_plugin_is_told_where_the_environment_names_a_backend():
    """The command may make no robot: it goes on, and both its first and its last line tell."""
    ended = lerobot_command([], broken=["msgspec"], LEROBOT_BACKEND_URL="ws://localhost:8000")
    assert ended.returncode == 0
    assert "the robot moves" in ended.stdout
    first, *_, last = ended.stderr.splitlines()
    assert first == last
    assert first.startswith("backend: nothing is recorded: ")


def test_broken_plugin_that_nobody_asked_for_is_not_noticed():
    """Without a backend there is only what LeRobot itself logs."""
    ended = lerobot_command([], broken=["msgspec"], LEROBOT_BACKEND_URL="")
    assert "the robot moves" in ended.stdout
    assert ended.stderr == ""
