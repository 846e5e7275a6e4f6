"""Which service a process belongs to: container, systemd unit or program, unless a rule says other.

A rule renames or groups: the first whose patterns all match gives the name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping  # noqa: TC003  (msgspec reads the types)
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

MATCHED: Final = ("command", "container", "executable", "name", "unit", "user")
"""What rules match: the command line in one string; the container's name; the executable's base
name, or its path if the pattern has a slash; the process's name; the unit with its type."""
_TEMPLATE = re.compile(r"\{([^{}]*)\}")
_NAME_LENGTH: Final = 128


@dataclass(frozen=True, slots=True)
class Rule:
    """Names the service of the processes that match.

    Attributes:
        match: for each of `MATCHED` that counts a pattern with `*`, `?` and `[...]`; one that
            matches anything still wants something to be there: `container: "*"` is true of
            containers only.
        name: the service's name; `{unit}` (without `.service`), `{service}` (what it would be
            without rules) and any other of `MATCHED` stand for the process's own.

    Raises:
        ValueError: an unknown word in `match` or `name`, or nothing in it.
    """

    match: Mapping[str, str]
    name: str

    def __post_init__(self) -> None:
        known = ", ".join(MATCHED)
        if not self.match:
            raise ValueError(f"a rule without anything to match: give one of {known}")
        for word in self.match:
            if word not in MATCHED:
                raise ValueError(f"a rule can't match {word!r}: use {known}")
        for word in _TEMPLATE.findall(self.name):
            if word not in (*MATCHED, "service"):
                raise ValueError(f"{{{word}}} in a name stands for nothing: use {known}, service")
        if not self.name.strip():
            raise ValueError("a rule without a name")


def service_name(facts: Mapping[str, str], path: str, rules: Sequence[Rule]) -> str:
    """Returns the service's name, at most 128 characters.

    Args:
        facts: `MATCHED` and `service`, the name without rules; "" where there is none.
        path: of the executable.
        rules: the first that matches counts; a name that comes out empty does not.
    """
    for rule in rules:
        if all(_matches(word, pattern, facts, path) for word, pattern in rule.match.items()):
            name = _fill(rule.name, facts).strip()
            if name:
                return name[:_NAME_LENGTH]
    return facts["service"][:_NAME_LENGTH]


def _fill(template: str, facts: Mapping[str, str]) -> str:
    words = {**facts, "unit": facts["unit"].removesuffix(".service")}
    return _TEMPLATE.sub(lambda match: words[match[1]], template)


def _matches(word: str, pattern: str, facts: Mapping[str, str], path: str) -> bool:
    value = path if word == "executable" and "/" in pattern else facts[word]
    return bool(value) and fnmatchcase(value, pattern)
