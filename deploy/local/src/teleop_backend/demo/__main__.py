"""`python -m teleop_backend.demo`, which Ctrl-C ends without a traceback while it is still imported, too."""

import sys

from teleop_schema.commands.command_line import run_command

if __name__ == "__main__":
    if not {"-h", "--help"}.intersection(sys.argv):
        print("starting the LeRobot backend for the demo; Ctrl-C stops it", flush=True)
    run_command("teleop_backend.demo.command")
