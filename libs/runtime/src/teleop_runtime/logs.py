"""JSON logs: a short constant event plus fields, one line each, on standard error."""

import logging
import re
import sys
from typing import Any

import structlog

SECRET_FIELDS = frozenset({"token", "password", "authorization", "database_url"})

# A token, or most of one; names of robots are rarely like this.
_LIKE_TOKEN = re.compile(r"(lrb_[a-z]+_[0-9A-Za-z]{6})[0-9A-Za-z]{14,}(_[0-9A-Za-z]*)?", re.ASCII)


def holds_token(text: str) -> bool:
    """Whether a text has something like a token in it."""
    return "lrb_" in text and _LIKE_TOKEN.search(text) is not None


def redact(text: str) -> str:
    """The text, with no more than the beginnings of the tokens in it."""
    return _LIKE_TOKEN.sub(r"\1…", text) if "lrb_" in text else text


def configure_logs(level: str) -> None:
    """Send structlog's and the standard library's records through one JSON renderer."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _redact,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for noisy in ("uvicorn", "uvicorn.error", "uvicorn.access", "websockets", "alembic", "procrastinate"):
        logger = logging.getLogger(noisy)
        logger.handlers = []
        logger.propagate = True
        logger.setLevel("WARNING")
    # These loggers warn at every attempt that the database is away; the code that needs it reports that once.
    for talkative in ("procrastinate", "psycopg.pool"):
        logging.getLogger(talkative).setLevel("ERROR")


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Logger of one module."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def _redact(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    for field, value in event.items():
        if field.lower() in SECRET_FIELDS:
            event[field] = "[redacted]"
        elif isinstance(value, str):
            event[field] = redact(value)
    return event
