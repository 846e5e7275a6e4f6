"""The log, as a terminal and as a machine read it."""

from __future__ import annotations

import json
import logging

from kernob.logs import JsonFormatter, TextFormatter


def record(level: int, message: str) -> logging.LogRecord:
    return logging.LogRecord("kernob.agent", level, __file__, 1, message, None, None)


def test_text_is_one_line_with_its_level() -> None:
    line = TextFormatter(colour=False).format(record(logging.WARNING, "the queue is full"))

    assert line[8:] == " warning  the queue is full"


def test_only_what_matters_is_coloured() -> None:
    formatter = TextFormatter(colour=True)

    assert "\033[33mwarning" in formatter.format(record(logging.WARNING, "x"))
    assert "\033[" not in formatter.format(record(logging.INFO, "x"))


def test_json_is_one_object_with_a_time() -> None:
    entry = json.loads(JsonFormatter().format(record(logging.ERROR, 'a "quoted"\nline')))

    assert entry["level"] == "error"
    assert entry["logger"] == "kernob.agent"
    assert entry["message"] == 'a "quoted"\nline'
    assert entry["time"].endswith("Z")
