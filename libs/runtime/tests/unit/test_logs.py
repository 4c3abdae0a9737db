"""JSON logs."""

import json
import subprocess
import sys

from teleop_runtime.access.tokens import make_token, prefix_of
from teleop_testing.waiting import PATIENCE_S

SCRIPT = """
import logging
from teleop_runtime.logs import configure_logs, get_logger

configure_logs("INFO")
log = get_logger("example")
log.info("robot connected", robot="robot_A", token="s3cret", database_url="postgresql://u:s3cret@h/d")
log.debug("never seen")
logging.getLogger("some.library").warning("theirs: %s", "yes")
logging.getLogger("uvicorn.error").info("never seen")
try:
    1 / 0
except ZeroDivisionError as error:
    log.error("it broke", exc_info=error, password="s3cret", Authorization="Bearer s3cret")
"""


def test_logs_are_json_lines_without_secrets():
    """One JSON object a line on standard error, ours and libraries' alike; secrets are blacked out."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    ours, theirs, broken = map(json.loads, done.stderr.splitlines())
    assert (ours["event"], ours["robot"], ours["level"]) == ("robot connected", "robot_A", "info")
    assert ours["token"] == ours["database_url"] == "[redacted]"
    assert (theirs["event"], theirs["logger"]) == ("theirs: yes", "some.library")
    assert "ZeroDivisionError" in broken["exception"]
    assert "s3cret" not in done.stderr
    assert done.stdout == ""


def test_tokens_are_redacted_wherever_they_stand():
    """In values, in the event, in what an exception says."""
    token = make_token("robot")
    script = (
        "from teleop_runtime.logs import configure_logs, get_logger\n"
        f'configure_logs("INFO")\ntry:\n    raise ValueError("not understood: {token}")\n'
        "except ValueError as error:\n"
        f'    get_logger("x").error("read {token}", path="/robots?token={token}", exc_info=error)\n'
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    assert token.rpartition("_")[0] not in done.stderr.replace(script, "")
    said = json.loads(done.stderr)
    for field in ("event", "path", "exception"):
        assert prefix_of(token) in said[field]
