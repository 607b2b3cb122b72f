"""JSON lines on stderr: one object a record, with the code of an error and never its secret."""

from __future__ import annotations

import logging
import sys

from pythonjsonlogger.json import JsonFormatter

from skex.base.errors import SkexError


class _Formatter(JsonFormatter):
    """Adds the stable code of a skex error; a stack trace only where the log level asks for it."""

    def add_fields(
        self, log_data: dict[str, object], record: logging.LogRecord, message_dict: dict[str, object]
    ) -> None:
        super().add_fields(log_data, record, message_dict)
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, SkexError):
            log_data["code"] = error.code.name


def configure(level: str) -> None:
    """Send everything at ``level`` and above to stderr as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _Formatter(
            "{asctime}{levelname}{name}{message}",
            style="{",
            rename_fields={"asctime": "time", "levelname": "level", "name": "source"},
            datefmt="%Y-%m-%dT%H:%M:%S%z",
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
