"""One log on standard error: text for people (coloured on a terminal), or JSON a line.

A record with an attribute `part` is of another process (see `supervisor`), which it names.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from kernob.config import Log

_COLOURS: Final = {"WARNING": "\033[33m", "ERROR": "\033[31m", "CRITICAL": "\033[31m"}
_PART: Final = "\033[36m"
_PLAIN: Final = "\033[0m"


class TextFormatter(logging.Formatter):
    """`12:00:03 warning  [part    ] message`; level and part are coloured on a terminal."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S")
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line."""
        clock = self.formatTime(record, self.datefmt)
        level = record.levelname.lower().ljust(8)
        if self._colour and record.levelname in _COLOURS:
            level = f"{_COLOURS[record.levelname]}{level}{_PLAIN}"
        line = f"{clock} {level} {self._part(record)}{record.getMessage()}"
        if record.exc_info:
            record.exc_text = self.formatException(record.exc_info)
        return f"{line}\n{record.exc_text}" if record.exc_text else line

    def _part(self, record: logging.LogRecord) -> str:
        part = getattr(record, "part", "")
        if not part:
            return ""
        return f"{_PART}{part:6}{_PLAIN} " if self._colour else f"{part:6} "


class JsonFormatter(logging.Formatter):
    """One object a line: `time` (RFC 3339), `level`, `logger`, `message`, `part`, `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line."""
        clock = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry = {
            "time": f"{clock}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if part := getattr(record, "part", ""):
            entry["part"] = part
        if record.exc_info:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            entry["exception"] = record.exc_text
        return msgspec.json.encode(entry).decode()


class _Entry(msgspec.Struct):
    """What `JsonFormatter` writes."""

    time: datetime
    level: str
    logger: str
    message: str
    exception: str = ""


def record_of(line: str, part: str) -> logging.LogRecord:
    """Returns a line that another process wrote to its standard error as a record of `part`.

    What `JsonFormatter` made comes back whole; anything else (what an interpreter says as it ends,
    a library in C) is a warning, and what ends a command of Kernob an error.
    """
    try:
        entry = msgspec.json.decode(line, type=_Entry)
    except msgspec.DecodeError:
        error = line.removeprefix("kernob: ")
        level = "WARNING" if error is line else "ERROR"
        entry = _Entry(datetime.now(UTC), level, "", error)
    level = entry.level.upper()
    return logging.makeLogRecord(
        {
            "name": entry.logger,
            "levelname": level,
            "levelno": logging.getLevelNamesMapping().get(level, logging.WARNING),
            "msg": entry.message,
            "created": entry.time.timestamp(),
            "msecs": entry.time.microsecond // 1000,
            "exc_text": entry.exception,
            "part": part,
        }
    )


def set_up_logging(settings: Log, *, quiet: bool = False) -> None:
    """Sends the log to standard error as `settings` say; `quiet` leaves only errors."""
    handler = logging.StreamHandler(sys.stderr)
    if settings.format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        # https://no-color.org
        colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
        handler.setFormatter(TextFormatter(colour=colour))
    logging.basicConfig(
        handlers=[handler], level="ERROR" if quiet else settings.level.upper(), force=True
    )
