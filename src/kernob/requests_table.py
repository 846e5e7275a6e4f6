"""Requests as the agent answers them in JSON: single ones, and what each series has counted.

`GET /api/requests` are the latest samples, for `kernob requests`; `GET /api/requests/series` the
histograms of all series, for `kernob top --requests`: two of them, some time apart, make rates.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from kernob import __version__
from kernob.protocols.registry import PROTOCOLS
from kernob.telemetry.spans import name_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kernob.collector import Collector
    from kernob.signals.samples import Sample
    from kernob.telemetry.model import AttributeValue, Points

SAMPLES_PATH: Final = "/api/requests"
SERIES_PATH: Final = "/api/requests/series"
_DURATIONS: Final = frozenset(
    metric.name for protocol in PROTOCOLS.values() for metric in (protocol.client, protocol.server)
)


class Request(msgspec.Struct, frozen=True):
    """One request, seen from one side.

    Attributes:
        number: counts samples of this agent; higher ones came later.
        time: of its first byte, nanoseconds since the Unix epoch.
        side: `client` or `server`: what the service is.
        operation: without literals, as a span is called.
        status: as the protocol says it, empty for plain success.
        error: `error.type`, empty if it went well.
        duration: nanoseconds, from its first byte to the last of its answer.
        first_byte: nanoseconds until the first of its answer.
        weight: requests of its series that it stands for, itself included.
        reason: `failed`, `slowest` or `fair` (one a second).
        request_size: bytes on the wire.
        response_size: bytes on the wire.
        attributes: of its span.
    """

    number: int
    time: int
    service: str
    side: str
    peer: str
    protocol: str
    operation: str
    status: str
    error: str
    duration: int
    first_byte: int
    weight: int
    reason: str
    request_size: int
    response_size: int
    attributes: dict[str, str | int | float | bool]


class Requests(msgspec.Struct, frozen=True):
    """The latest samples, oldest first.

    Attributes:
        time: nanoseconds since the Unix epoch.
        since: of the agent, likewise: `number` begins again with each.
        reason: why there are none and never will be; empty if there can be some.
        dropped: samples that could not be kept, by reason, since the agent's start.
    """

    time: int
    since: int
    host: str
    reason: str
    dropped: dict[str, int]
    requests: list[Request]


class Series(msgspec.Struct, frozen=True):
    """What one operation with one status of a service with a peer has counted.

    Attributes:
        sum: seconds.
        offset: number of the first of `counts`.
        counts: by bucket; bucket i holds (2**(i/8), 2**((i+1)/8)] seconds.
    """

    service: str
    side: str
    peer: str
    protocol: str
    operation: str
    status: str
    error: str
    sum: float
    offset: int
    counts: list[int]


class SeriesTable(msgspec.Struct, frozen=True):
    """All series of one moment.

    Attributes:
        time: nanoseconds since the Unix epoch.
        reason: why there are none and never will be; empty if there can be some.
        losses: what could not be counted, by reason, since the agent's start.
    """

    time: int
    host: str
    version: str
    reason: str
    losses: dict[str, int]
    series: list[Series]


def requests_of(collector: Collector, dropped: dict[str, int], since: int, after: int) -> Requests:
    """Returns the latest samples of a collector, those up to number `after` left out.

    Args:
        collector: nobody else may be reading with it meanwhile.
        dropped: see `Requests`.
        since: see `Requests`.
        after: 0 for all that are kept.
    """
    latest = collector.samples.latest if collector.samples else ()
    return Requests(
        time=time.time_ns(),
        since=since,
        host=str(collector.resource["host.name"]),
        reason=collector.no_requests,
        dropped=dropped,
        requests=[request_of(sample) for sample in latest if sample.number > after],
    )


def series_table(collector: Collector, points: Iterable[Points], at: int) -> SeriesTable:
    """Returns the series among the points that a collector made `at` a time."""
    return SeriesTable(
        time=at,
        host=str(collector.resource["host.name"]),
        version=__version__,
        reason=collector.no_requests,
        losses=collector.losses(),
        series=series_of(points),
    )


def request_of(sample: Sample) -> Request:
    """Returns a sample as it is shown."""
    found = dict(sample.about.attributes)
    return Request(
        number=sample.number,
        time=sample.start,
        **_named(found),
        duration=sample.end - sample.start,
        first_byte=sample.first - sample.start,
        weight=sample.weight,
        reason=sample.reason,
        request_size=sample.request_size,
        response_size=sample.response_size,
        attributes={**found, **dict(sample.own())},
    )


def series_of(points: Iterable[Points]) -> list[Series]:
    """Returns the series of durations among the points of one moment."""
    found = []
    for one in points:
        if one.metric.name not in _DURATIONS:
            continue
        for series, value in zip(one.series, one.values, strict=True):
            used = np.flatnonzero(value["counts"])
            low, high = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 0)
            found.append(
                Series(
                    **_named(dict(series.attributes)),
                    sum=float(value["sum"]),
                    offset=int(value["offset"]) + low,
                    counts=value["counts"][low:high].tolist(),
                )
            )
    return found


def _named(found: Mapping[str, AttributeValue]) -> dict[str, str]:
    """Returns what samples and series are told apart by."""
    error = str(found.get("error.type", ""))
    status = next(
        (
            str(found[name])
            for name in (
                *("http.response.status_code", "db.response.status_code"),
                "kernob.dns.response",
            )
            if name in found
        ),
        error,
    )
    return {
        "service": str(found.get("service.name", "")),
        "side": str(found.get("kernob.side", "")),
        "peer": str(found.get("kernob.peer", "")),
        "protocol": str(found.get("db.system.name") or found.get("network.protocol.name", "")),
        "operation": "(other)" if "otel.metric.overflow" in found else name_of(found),
        "status": status,
        "error": error,
    }
