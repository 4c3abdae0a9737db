"""The console script, which imports all else only once Ctrl-C ends it without a traceback."""

from teleop_schema.commands.command_line import run_command


def main() -> None:
    """Run it."""
    run_command("teleop_client.importing.cli")
