"""Tests run as an ordinary user, also where root starts them."""

import subprocess
import sys

import pytest
from teleop_testing.waiting import PATIENCE_S

pytestmark = pytest.mark.root("it is about what root starts")

ORDINARY = [sys.executable, "-m", "teleop_testing.machine.ordinary"]
TELL = 'id -un; cat seen; touch "$HOME/written"; grep CapEff /proc/self/status; echo "$HOME"; exit 7'


@pytest.fixture
def folder(tmp_path):
    """A folder that only root may enter, with something to read in it."""
    (tmp_path / "seen").write_text("seen\n")
    tmp_path.chmod(0o755)
    tmp_path.parent.chmod(0o700)
    return tmp_path


@pytest.mark.parametrize("command", [ORDINARY, ORDINARY * 2], ids=["by root", "by an ordinary user"])
def test_a_command_is_an_ordinary_users(folder, command):
    """It has no rights, a home of its own for as long as it runs, and reaches what root alone could reach."""
    done = subprocess.run(
        [*command, "bash", "-c", TELL], cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.stderr == ""
    user, seen, capabilities, home = done.stdout.splitlines()
    assert (user, seen, capabilities.split()[1]) == ("nobody", "seen", "0" * 16)
    assert done.returncode == 7
    assert subprocess.run(["ls", home], capture_output=True, timeout=PATIENCE_S).returncode != 0
    assert folder.parent.stat().st_mode & 0o777 == 0o700


def test_where_root_may_not_show_it_what_to_do_is_said(folder):
    """As in a container, if the checkout lies in root's home."""
    few = ["setpriv", "--bounding-set=-sys_admin"]
    done = subprocess.run(
        [*few, *ORDINARY, "true"], cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S
    )
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1
    assert line.startswith(
        f"tests run as an ordinary user, who can't reach {folder}, and root may not change"
    )
