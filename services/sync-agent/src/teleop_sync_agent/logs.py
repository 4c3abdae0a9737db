"""Logs on standard error: short lines for people, JSON for other programs."""

import json
import logging
import sys
from datetime import UTC, datetime

from teleop_schema.words import shown

# Attributes that every record has; all others were given as `extra`.
_COMMON = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, event, and the record's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **fields_of(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class PlainFormatter(logging.Formatter):
    """For people: time, event, fields."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        fields = "  ".join(f"{name}={value}" for name, value in fields_of(record).items())
        line = shown(f"{time} {record.getMessage()}  {fields}".rstrip())
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """The record's own fields."""
    return {name: value for name, value in vars(record).items() if name not in _COMMON}


def configure_logs(*, plain: bool) -> None:
    """Send everything to standard error, as short lines or as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainFormatter() if plain else JsonFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    for noisy in ("watchfiles", "websockets", "aiohttp", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
