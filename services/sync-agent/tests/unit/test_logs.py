"""What the agent writes to its log."""

import logging

from teleop_sync_agent.logs import JsonFormatter


def test_names_stay_readable():
    """A dataset is called in the log as it is on the disk, whatever the language."""
    record = logging.makeLogRecord({"msg": "stored", "dataset": "한국/집기"})
    assert '"dataset": "한국/집기"' in JsonFormatter().format(record)
