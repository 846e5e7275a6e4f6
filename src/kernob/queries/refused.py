"""What the server refused: single records, and whole requests.

Records that it refused, or dropped early, are counted in `kernob_refused`. Whole requests are in
its own figures, `kernob.server.requests`, which it stores as any sender does; what was in them is
not known, since most were not read. A server that can't store its own figures has them in memory,
since its start: then these are told, and it is said.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kernob.queries.model import Refusals, RefusedRow
from kernob.queries.rates import increases
from kernob.queries.runs import Which
from kernob.store.store import REASONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kernob.queries.model import Range
    from kernob.store.engine import Reader

REQUESTS: Final = "kernob.server.requests"
LOST: Final = "kernob.server.lost"
STORED: Final = "stored"
"""The outcome of a request that was not refused."""
OUTCOMES: Final = {
    "malformed": "it is not OTLP",
    "too_large": "it is larger than server.largest_body",
    "unsupported": "its type or encoding is not known",
    "unauthorized": "its sender has no token, or a wrong one",
    "late": "it did not arrive in time",
    "overloaded": "too much waited already (senders try again)",
    "store_full": "the disk was full (senders try again)",
    "store_failed": "the store failed (senders try again)",
    "failed": "the server failed",
}
"""Why a whole request is refused, by the outcome under which it is counted."""
STALE: Final = 30_000
"""Milliseconds after which figures that come every ten seconds are missing from the store."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What a server has in memory.

    Attributes:
        started: when it did, milliseconds since the Unix epoch.
        requests: by signal and outcome.
        records: by signal and reason.
    """

    started: int
    requests: Mapping[tuple[str, str], int]
    records: Mapping[tuple[str, str], int]


def refused(reader: Reader, asked: Range, now: int, counted: Counted | None = None) -> Refusals:
    """Returns what the server refused within the range, or since its start.

    The SQL sums `kernob_refused`; requests are increases of the server's own counters.

    Args:
        reader: of the store.
        asked: the range.
        now: the time, milliseconds since the Unix epoch.
        counted: what the server has in memory: told if the range ends now, and the latest of it is
            not in the store.

    Raises:
        StoreError: as `Reader.read`.
    """
    fresh = now - STALE
    if counted and counted.started < fresh < asked.end and not _stored(reader, fresh):
        requests = [_request(*key, count, None) for key, count in counted.requests.items()]
        records = [_record(*key, count, None) for key, count in counted.records.items()]
        return Refusals(counted.started, requests + records)
    return Refusals(None, _requests(reader, asked, now) + _records(reader, asked))


def _stored(reader: Reader, since: int) -> bool:
    """Returns whether a server has stored its figures since then."""
    found = reader.read(
        "SELECT count() AS points FROM kernob_points WHERE MetricName = {metric:String} "
        "AND Time >= fromUnixTimestamp64Milli({since:Int64})",
        metric=REQUESTS,
        since=since,
    )
    return bool(found["points"][0].as_py())


def _requests(reader: Reader, asked: Range, now: int) -> list[RefusedRow]:
    """Returns the whole requests; the last of a kind was at the end of its step at the latest."""
    labels = {"signal": "Attributes['kernob.signal']", "outcome": "Attributes['kernob.outcome']"}
    which = Which("Attributes['kernob.outcome'] != {stored:String}", {"stored": STORED})
    grown = increases(reader, REQUESTS, asked, labels, which)
    counts: Counter[tuple[str, str]] = Counter()
    last: dict[tuple[str, str], int] = {}
    keys = zip(grown.labels["signal"], grown.labels["outcome"], strict=True)
    for key, steps in zip(keys, grown.values, strict=True):
        (at,) = steps.nonzero()
        if at.size:
            counts[key] += round(steps.sum())
            until = min(now, asked.start + (int(at[-1]) + 1) * asked.step)
            last[key] = max(last.get(key, 0), until)
    return [_request(*key, count, last[key]) for key, count in counts.most_common()]


def _records(reader: Reader, asked: Range) -> list[RefusedRow]:
    """Returns the single records."""
    found = reader.read(
        "SELECT toString(Signal) AS signal, toString(Reason) AS reason, "
        "toInt64(sum(Records)) AS records, toUnixTimestamp(max(Time)) * 1000 AS last "
        "FROM kernob_refused WHERE Time >= fromUnixTimestamp64Milli({start:Int64}) "
        "AND Time < fromUnixTimestamp64Milli({end:Int64}) "
        "GROUP BY signal, reason HAVING records > 0 ORDER BY records DESC",
        start=asked.start,
        end=asked.end,
    )
    return [_record(**row) for row in found.to_pylist()]


def _request(signal: str, outcome: str, requests: int, last: int | None) -> RefusedRow:
    return RefusedRow(signal, OUTCOMES.get(outcome, outcome), requests, None, last)


def _record(signal: str, reason: str, records: int, last: int | None) -> RefusedRow:
    return RefusedRow(signal, REASONS.get(reason, reason), None, records, last)
