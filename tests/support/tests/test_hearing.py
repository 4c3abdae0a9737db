"""Tests that run in the background start programs as a terminal does."""

import signal
import subprocess
import sys

import pytest
from teleop_testing.machine.hearing import OF_TERMINALS
from teleop_testing.waiting import PATIENCE_S

DEAF = """
import signal, subprocess, sys
from teleop_testing.machine.hearing import OF_TERMINALS, hear_terminals
for number in OF_TERMINALS:
    signal.signal(number, signal.SIG_IGN)
hear_terminals()
program = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.Signals[%r])" % sys.argv[1]]
print(subprocess.run(program, stderr=subprocess.DEVNULL).returncode)
"""


@pytest.mark.parametrize("number", OF_TERMINALS)
def test_signals_end_programs(number):
    """Also where whoever runs the tests was started deaf to them."""
    done = subprocess.run(
        [sys.executable, "-c", DEAF, signal.Signals(number).name],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.stdout.strip() == str(-number), done.stderr
