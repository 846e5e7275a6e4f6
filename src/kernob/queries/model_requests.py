"""What queries about requests return; see `model`. Durations are seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Whoever reads and writes these looks for the types here, as the program runs.
from kernob.queries.model import Mark, Provenance, Range, Side  # noqa: TC001

RequestGrouping = Literal["service", "operation", "peer", "host", "name"]


@dataclass(frozen=True, slots=True)
class RequestRow:
    """Requests of one service, operation, peer, host or name that was looked up.

    Attributes:
        key: what the filter of this name takes: of an operation with its protocol before it.
        name: to be shown.
        side: as server, or as client.
        protocols: `network.protocol.name` of them.
        detail: statements (without literals) or types of lookups behind the name.
        requests: within the range.
        errors: those of them that failed.
        failures: `error.type` and how many, at most five, the most frequent first.
        seconds: that all of them took together.
        share: of the time that all rows of this side took together.
        p50, p95, p99: None without requests.
        service: it is a service with requests of its own, whose page there is.
    """

    key: str
    name: str
    side: Side
    protocols: list[str]
    detail: str
    requests: int
    errors: int
    failures: dict[str, int]
    seconds: float
    share: float
    p50: float | None
    p95: float | None
    p99: float | None
    service: bool


@dataclass(frozen=True, slots=True)
class Requests:
    """Who asked for what, how it went and how long it took.

    Attributes:
        range: what was asked for.
        by: what a row is.
        rows: those of each side, the most requests first, at most the limit.
        rows_left_off: how many more there would be.
        requests, errors: of all rows together.
        scale: of the histograms: percentiles are off by less than a factor of 2**(2**-scale).
        provenance: how this is known.
    """

    range: Range
    by: RequestGrouping
    rows: list[RequestRow]
    rows_left_off: int
    requests: int
    errors: int
    scale: int
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class RequestLines:
    """Requests over time, a value for each step; None where nothing was measured.

    Attributes:
        rate: requests per second.
        errors: failed requests per second.
        p50, p95, p99: None also where nothing was asked for.
    """

    rate: list[float | None]
    errors: list[float | None]
    p50: list[float | None]
    p95: list[float | None]
    p99: list[float | None]


@dataclass(frozen=True, slots=True)
class HeatMap:
    """How many requests took how long, over time: counts of the very buckets.

    Attributes:
        scale: of the buckets, each 2**(2**-scale) as wide as the one below.
        bounds: n + 1 of them; bucket i is above bounds[i], and at most bounds[i + 1].
        counts: for each step, one number for each bucket, the fastest first.
    """

    scale: int
    bounds: list[float]
    counts: list[list[int]]


@dataclass(frozen=True, slots=True)
class Missed:
    """Requests that are not among the figures, or only in part.

    Attributes:
        kind: `unpaired` and `unseen` are of the service's hosts, the others its own.
        protocol: `network.protocol.name`; empty if none is known.
        reason: the agents' word for it; empty for those that need none.
        count: requests; of `unseen`, calls.
    """

    kind: Literal["unpaired", "unseen", "unanswered", "one_way"]
    protocol: str
    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class Service:
    """Which operation of a service is slow or failing, since when, against which dependency?

    Lookups of names are told apart (`names`) unless a side has nothing else.

    Attributes:
        range: what was asked for, in steps.
        times: start of each step.
        name: of the service.
        side: that all but `sides` and `names` is about.
        sides: both in total, those with requests, the busier one first.
        lines: over time, of the operation and peer that were asked for.
        heat: the same in buckets.
        operations: of the peer that was asked for, or all; the most time first.
        peers: of the operation that was asked for, or all; the most time first.
        names: that it looked up.
        rows_left_off: of the three tables, how many more there would be.
        missed: what is not among these figures.
        known: the service was ever heard of within the range, with or without requests.
        marks: what happened meanwhile.
        provenance: how this is known.
    """

    range: Range
    times: list[int]
    name: str
    side: Side
    sides: list[RequestRow]
    lines: RequestLines
    heat: HeatMap
    operations: list[RequestRow]
    peers: list[RequestRow]
    names: list[RequestRow]
    rows_left_off: int
    missed: list[Missed]
    known: bool
    marks: list[Mark]
    provenance: Provenance
