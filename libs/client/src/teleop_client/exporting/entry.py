"""The console scripts, which import all else only once Ctrl-C ends them without a traceback."""

from teleop_schema.commands.command_line import run_command


def main() -> None:
    """Run it."""
    run_command("teleop_client.exporting.cli")


def origin() -> None:
    """Run `dataset-origin`."""
    run_command("teleop_client.exporting.origin")
