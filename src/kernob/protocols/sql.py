"""Names for SQL: what a statement without its literals does, and to what."""

from __future__ import annotations

import re
from typing import Final

_WORD: Final = re.compile(r'[A-Za-z_][\w$]*|"[^"]*"|`[^`]*`|[.(),;*]|\S')
_BEFORE_TARGET: Final = frozenset({"FROM", "JOIN", "INTO", "UPDATE", "TABLE", "CALL", "VIEW"})
_SKIPPED: Final = frozenset({"ONLY", "IF", "NOT", "EXISTS", "LATERAL", "IGNORE"})
_PREFIXES: Final = frozenset({"PREPARE"})
_LENGTH: Final = 255


def operation_name(text: str) -> str:
    """Returns the first word of a statement in capitals (`SELECT`), empty if there is none."""
    for word in _WORD.findall(text):
        if word[0].isalpha():
            return str(word).upper()
        if word != "(":
            return ""
    return ""


def summary(text: str) -> str:
    """Returns operation and targets, as `SELECT orders users`.

    Semantic conventions 1.38, database, `db.query.summary`. At most 255 characters. Targets are the
    words behind FROM, JOIN, INTO, UPDATE, TABLE and CALL, each once and without its schema's
    quotes; a statement that can't be told apart so is its first word.
    """
    name = operation_name(text)
    targets: dict[str, None] = {}
    words = _WORD.findall(text)
    for position, word in enumerate(words):
        if word.upper() not in _BEFORE_TARGET:
            continue
        if target := _target(words, position + 1):
            targets.setdefault(target)
    return " ".join([name, *targets])[:_LENGTH].strip()


def _target(words: list[str], at: int) -> str:
    """Returns the name that begins at a word, its schema before a dot; empty if there is none."""
    while at < len(words) and words[at].upper() in _SKIPPED:
        at += 1
    parts: list[str] = []
    while at < len(words) and (words[at][0].isalnum() or words[at][0] in '_"`'):
        parts.append(words[at].strip('"`'))
        if at + 1 >= len(words) or words[at + 1] != ".":
            break
        at += 2
    return ".".join(parts)
