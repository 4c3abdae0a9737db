"""How commands begin, and refuse."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from teleop_schema.commands.command_line import Parser
from teleop_testing.waiting import PATIENCE_S

RUN = "from teleop_schema.commands.command_line import run_command; run_command({!r})"


def test_refusal_is_its_reason_and_where_to_get_help(capsys):
    """No page of usage before them."""
    parser = Parser(prog="export-to-dataset")
    for number in range(20):
        parser.add_argument(f"--option_{number}")
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(["--opiton_3=x"])
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        "export-to-dataset: error: unrecognized arguments: --opiton_3=x\n"
        "export-to-dataset --help tells what it takes\n"
    )


def test_names_of_options_take_both_kinds_of_dashes():
    """As LeRobot writes them, or as most commands do; values and what follows `--` stay as they are."""
    parser = Parser(prog="command")
    parser.add_argument("--robot_id")
    commands = parser.add_subparsers()
    once = commands.add_parser("once")
    once.add_argument("--state-dir")
    once.add_argument("words", nargs="*")
    words = ["--robot-id", "a-b_c", "once", "--state_dir=a_b-c", "--", "--state_dir"]
    told = parser.parse_args(words)
    assert (told.robot_id, told.state_dir, told.words) == ("a-b_c", "a_b-c", ["--state_dir"])


@pytest.mark.parametrize(
    "module",
    [
        pytest.param('print("importing", flush=True); time.sleep(3600)\ndef main(): pass', id="importing"),
        pytest.param('def main():\n    print("running", flush=True); time.sleep(3600)', id="running"),
    ],
)
def test_ctrl_c_leaves_no_traceback(tmp_path, module):
    """Also while the command's modules are imported: shells see that it was ended by the signal."""
    (tmp_path / "slow_command.py").write_text(f"import time\n{textwrap.dedent(module)}\n")
    command = [sys.executable, "-c", RUN.format("slow_command")]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path("/")
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, said) == (-signal.SIGINT, "")


def test_result_of_main_is_the_exit_status(tmp_path):
    """As `sys.exit` takes it."""
    (tmp_path / "quick_command.py").write_text("def main(): return 3\n")
    command = [sys.executable, "-c", RUN.format("quick_command")]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, check=False, timeout=PATIENCE_S)
    assert done.returncode == 3


def test_user_without_a_home_is_told_what_to_set(tmp_path):
    """A container's, for example, that no /etc/passwd knows: one line, no traceback."""
    home = "from pathlib import Path\ndef main(): Path('~nobody-of-this-name').expanduser()\n"
    (tmp_path / "homeless_command.py").write_text(home)
    command = [sys.executable, "-c", RUN.format("homeless_command")]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        command, env=environment, check=False, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 2
    assert done.stderr == "error: this user has no home folder; set HOME to one that it may write to\n"
