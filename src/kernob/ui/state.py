"""What the URL says: the time range, live or not, and a page's own choices."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, quote, urlencode

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_LENGTH: Final = 15 * 60_000
SHORTEST: Final = 10_000
"""Milliseconds: zooming in ends here."""
LONGEST: Final = 400 * 86_400_000

_UNITS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_LENGTH: Final = re.compile(r"now-([1-9][0-9]{0,5})([smhd])")
_LONGEST_TEXT: Final = 1024
_MOST_CHOICES: Final = 20


@dataclass(frozen=True, slots=True)
class Span:
    """A time range: the last `length` milliseconds, or from `start` to `end`.

    Attributes:
        length: milliseconds back from now; 0 if the range is absolute.
        start, end: milliseconds since the epoch; 0 if the range is relative.
    """

    length: int = DEFAULT_LENGTH
    start: int = 0
    end: int = 0

    def bounds(self, now: int) -> tuple[int, int]:
        """Returns start and end in milliseconds since the epoch."""
        return (now - self.length, now) if self.length else (self.start, self.end)

    def texts(self) -> tuple[str, str]:
        """Returns `from` and `to`, for URLs and the API: `now-15m` and `now`, or times."""
        if self.length:
            return f"now-{_length_text(self.length)}", "now"
        return _time_text(self.start), _time_text(self.end)

    def wider(self, now: int) -> Span:
        """Returns a range three times as long around the same middle, not beyond now."""
        start, end = self.bounds(now)
        length = min(3 * (end - start), LONGEST)
        end = min(now, end + (end - start))
        return Span(0, max(0, end - length), end)


@dataclass(frozen=True, slots=True)
class State:
    """All that a link to a page says.

    Attributes:
        span: the time range.
        live: follow what happens now; never with an absolute range.
        choices: the page's own: `by`, `service`, `sort`, ...
    """

    span: Span = Span()
    live: bool = True
    choices: Mapping[str, str] = field(default_factory=dict)

    def choice(self, name: str, *known: str) -> str:
        """Returns a choice; if it isn't one of the known ones (if there are any), the first."""
        value = self.choices.get(name, "")
        return value if not known or value in known else known[0]

    def choose(self, **choices: str) -> State:
        """Returns the state with some choices changed; an empty one is taken out."""
        kept = {name: value for name, value in {**self.choices, **choices}.items() if value}
        return replace(self, choices=kept)

    def at(self, span: Span, *, live: bool | None = None) -> State:
        """Returns the state with another range; live only goes with a relative one."""
        wanted = self.live if live is None else live
        return replace(self, span=span, live=wanted and span.length > 0)

    def query(self) -> str:
        """Returns what stands behind the `?`, nothing for what is the default."""
        span = self.span
        pairs: list[tuple[str, str]] = []
        if span.length and span.length != DEFAULT_LENGTH:
            pairs.append(("from", span.texts()[0]))
        if not span.length:
            pairs += zip(("from", "to"), span.texts(), strict=True)
        elif not self.live:
            pairs.append(("live", "off"))
        pairs += sorted(self.choices.items())
        return urlencode(pairs, quote_via=quote, safe=":/@,")

    def link(self, path: str = "", **choices: str) -> str:
        """Returns a link: to this page with some choices changed, or to another with the range.

        Args:
            path: of another page; then only `choices` are in the link, and none of this page's.
            choices: to change; an empty one is taken out.
        """
        if path:
            query = replace(self, choices={}).choose(**choices).query()
            return f"{path}?{query}" if query else path
        return f"?{self.choose(**choices).query()}"

    def fixed(self, now: int) -> State:
        """Returns the state with absolute times: what a copied link says."""
        return self.at(Span(0, *self.span.bounds(now)))


def parse(query: str) -> State:
    """Returns what a query string says; what makes no sense counts as not said."""
    pairs = dict(parse_qsl(query.removeprefix("?"), max_num_fields=100))
    since, until = (pairs.pop(name, "") for name in ("from", "to"))
    live = pairs.pop("live", "") != "off"
    span = Span()
    start, end = _time(since), _time(until)
    if start is not None and end is not None and start < end <= start + LONGEST:
        span = Span(0, start, max(end, start + SHORTEST))
    elif (found := _LENGTH.fullmatch(since)) and SHORTEST <= _length(found) <= LONGEST:
        span = Span(_length(found))
    short = {name: value for name, value in pairs.items() if len(value) <= _LONGEST_TEXT and value}
    choices = dict(list(short.items())[:_MOST_CHOICES])
    return State(span, live and span.length > 0, choices)


def _length(found: re.Match[str]) -> int:
    return int(found[1]) * _UNITS[found[2]]


def _length_text(length: int) -> str:
    unit = next(name for name in "dhms" if length % _UNITS[name] == 0 or name == "s")
    return f"{length // _UNITS[unit]}{unit}"


def _time_text(time: int) -> str:
    text = datetime.fromtimestamp(time / 1000, UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00").removesuffix(".000") + "Z"


def _time(text: str) -> int | None:
    """Returns milliseconds; a time is ISO 8601 with a zone."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return round(time.timestamp() * 1000) if time.tzinfo else None
