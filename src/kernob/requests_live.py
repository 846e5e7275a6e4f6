"""`kernob requests`: single requests as they come, one line each, for people or as JSON."""

from __future__ import annotations

import contextlib
import shutil
import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

import click
import msgspec

from kernob.errors import ConfigError, KernobError
from kernob.rates import duration_text
from kernob.requests_table import SAMPLES_PATH, SERIES_PATH, Request, Requests, SeriesTable
from kernob.top.cells import placed
from kernob.top.remote import ask

if TYPE_CHECKING:
    from collections.abc import Callable

LATEST: Final = 20
"""Requests from before that are shown first."""
INTERVAL: Final = 1.0
"""Seconds between two looks."""
_COLUMNS: Final = (
    ("time", 12, False),
    ("service", 16, False),
    ("side", 6, False),
    ("peer", 16, False),
    ("protocol", 10, False),
    ("operation", 28, False),
    ("status", 9, False),
    ("duration", 8, True),
    ("first", 8, True),
    ("weight", 6, True),
    ("reason", 7, False),
)
"""Title, width and whether to align to the right; the operation takes what room is left."""
_OPERATION: Final = 5
_GAP: Final = "  "


@dataclass(frozen=True, slots=True)
class Filter:
    """Which requests to show: those that meet all of it.

    Attributes:
        service: its name holds this text, as do `protocol` and `operation`; case does not matter.
        errors: only those that failed.
        slower: only those that took longer, in seconds.
    """

    service: str = ""
    protocol: str = ""
    operation: str = ""
    errors: bool = False
    slower: float = 0.0

    def lets(self, request: Request) -> bool:
        """Whether a request is shown."""
        return (
            self.service.lower() in request.service.lower()
            and self.protocol.lower() in request.protocol.lower()
            and self.operation.lower() in request.operation.lower()
            and (not self.errors or bool(request.error))
            and request.duration / 1e9 >= self.slower
        )


def requests_from_agent(url: str, token: str = "") -> Callable[[int], Requests]:
    """Returns a source for `follow`: the agent that listens at `url`.

    It raises what `kernob.top.remote.ask` does.
    """
    address = url.rstrip("/") + SAMPLES_PATH
    return lambda after: ask(f"{address}?{urlencode({'after': after})}", token, Requests, "agent")


def series_from_agent(url: str, token: str = "") -> SeriesTable:
    """Returns the series of the agent that listens at `url`.

    Raises:
        ConfigError: `url` isn't one of an agent, it refuses the token, or it sees no requests.
        KernobError: nobody answers there, or not as an agent does.
    """
    found = ask(url.rstrip("/") + SERIES_PATH, token, SeriesTable, "agent")
    if found.reason:
        raise ConfigError(f"no requests are seen here: {found.reason}")
    return found


class Follower:
    """Asks a source for what is new."""

    def __init__(self, source: Callable[[int], Requests]) -> None:
        self._source = source
        self._after = 0
        self._since: int | None = None

    def look(self) -> tuple[list[Request], int]:
        """Returns the requests since the last look, and how many came and went unseen meanwhile.

        Raises:
            ConfigError: nothing will ever come.
            KernobError: the source can't be asked now.
        """
        found = self._source(self._after)
        first = self._since is None
        if not first and found.since != self._since:
            # Another agent, which counts from 1.
            self._after = 0
            found = self._source(0)
        self._since = found.since
        if found.reason:
            raise ConfigError(f"no requests are seen here: {found.reason}")
        missed = 0
        if found.requests:
            missed = 0 if first else found.requests[0].number - self._after - 1
            self._after = found.requests[-1].number
        return found.requests, missed


def follow(source: Callable[[int], Requests], wanted: Filter, *, as_json: bool) -> None:
    """Writes requests to standard output until Ctrl-C.

    Args:
        source: returns the samples after a number.
        wanted: which to show.
        as_json: one object a line, as `kernob.requests_table.Request` describes it.

    Raises:
        ConfigError: nothing will ever come.
        KernobError: the source can't be asked at the first time; later it is asked again.
        BrokenPipeError: nobody reads on.
    """
    with contextlib.suppress(KeyboardInterrupt):
        _follow(Follower(source), wanted, as_json=as_json)


def _follow(follower: Follower, wanted: Filter, *, as_json: bool) -> None:
    requests, _ = follower.look()
    if not as_json:
        click.echo(_GAP.join(placed(name, w, right=r) for name, w, r in _columns()).rstrip())
    _show([one for one in requests if wanted.lets(one)][-LATEST:], as_json=as_json)
    failing = False
    while True:
        time.sleep(INTERVAL)
        try:
            requests, missed = follower.look()
        except ConfigError:
            raise
        except KernobError as error:
            if not failing:
                click.echo(f"kernob: {error}; trying again", err=True)
            failing = True
            continue
        failing = False
        if missed > 0:
            click.echo(f"kernob: {missed} more came than are kept: not shown", err=True)
        _show([one for one in requests if wanted.lets(one)], as_json=as_json)


def _show(requests: list[Request], *, as_json: bool) -> None:
    columns = _columns()
    for one in requests:
        if as_json:
            click.echo(msgspec.json.encode(one))
        else:
            click.echo(click.style(_line(one, columns), fg="red" if one.error else None))


def _columns() -> list[tuple[str, int, bool]]:
    """Returns the columns as wide as they are in this terminal; a pipe gets 160 cells."""
    width = shutil.get_terminal_size((160, 24)).columns
    used = sum(one for _, one, _ in _COLUMNS) + len(_GAP) * (len(_COLUMNS) - 1)
    name, least, right = _COLUMNS[_OPERATION]
    grown = (name, max(least, least + width - used), right)
    return [*_COLUMNS[:_OPERATION], grown, *_COLUMNS[_OPERATION + 1 :]]


def _line(one: Request, columns: list[tuple[str, int, bool]]) -> str:
    when = datetime.fromtimestamp(one.time / 1e9).astimezone()
    cells = (
        f"{when:%H:%M:%S}.{when.microsecond // 1000:03}",
        one.service,
        one.side,
        one.peer,
        one.protocol,
        one.operation,
        one.status,
        duration_text(one.duration / 1e9),
        duration_text(one.first_byte / 1e9),
        str(one.weight),
        one.reason,
    )
    return _GAP.join(
        placed(cell, width, right=right)
        for cell, (_, width, right) in zip(cells, columns, strict=True)
    ).rstrip()
