"""Requests by service, operation, peer, host or name: how many, how they went, how long they took.

Requests are the counts of the histograms of durations, errors those with an `error.type`. Lookups
of names are requests, too; where other requests are asked for as well, they are told apart.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np

from kernob.queries.histograms import recorded, whole
from kernob.queries.model_requests import RequestRow, Requests
from kernob.queries.percentiles import quantiles_of
from kernob.queries.provenance import REQUEST_HOOKS, provenance
from kernob.queries.runs import ALL, Which

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from kernob.queries.histograms import Recorded
    from kernob.queries.model import Range, Side
    from kernob.queries.model_requests import RequestGrouping
    from kernob.store.engine import Reader

LOOKUPS: Final = "dns.lookup.duration"
OPERATIONS: Final = (
    "http.server.request.duration",
    "http.client.request.duration",
    "db.client.operation.duration",
    "kernob.db.server.operation.duration",
)
METRICS: Final = (*OPERATIONS, LOOKUPS)
QUANTILES: Final = (0.5, 0.95, 0.99)
FAILURES: Final = 5
"""Kinds of failure that a row tells."""
DETAILS: Final = 3
"""Statements, or types of lookups, that a row tells."""
UNKNOWN: Final = "unknown"
"""An operation that nobody knows, such as a statement prepared before the agent started."""

_SIDE: Final = (
    "multiIf(Attributes['kernob.side'] != '', Attributes['kernob.side'], "
    "position(MetricName, '.server.') > 0, 'server', 'client')"
)
_PROTOCOL: Final = (
    "multiIf(Attributes['network.protocol.name'] != '', Attributes['network.protocol.name'], "
    "Attributes['db.system.name'] != '', Attributes['db.system.name'], "
    f"MetricName = '{LOOKUPS}', 'dns', 'http')"
)
_PEER: Final = (
    "if(Attributes['kernob.peer'] != '', Attributes['kernob.peer'], Attributes['server.address'])"
)
_OPERATION: Final = (
    "trimBoth(multiIf(startsWith(MetricName, 'http.'), concat(Attributes['http.request.method'], "
    "' ', if(Attributes['http.route'] != '', Attributes['http.route'], "
    "Attributes['url.template'])), "
    f"MetricName = '{LOOKUPS}', concat(Attributes['kernob.dns.question.type'], ' ', "
    "Attributes['dns.question.name']), "
    "Attributes['db.query.summary'] != '', Attributes['db.query.summary'], "
    "Attributes['db.operation.name']))"
)
LABELS: Final[Mapping[str, str]] = {
    "metric": "MetricName",
    "service": "Service",
    "host": "Host",
    "side": _SIDE,
    "protocol": _PROTOCOL,
    "peer": _PEER,
    "operation": _OPERATION,
    "error": "Attributes['error.type']",
    "name": "Attributes['dns.question.name']",
    "detail": f"if(MetricName = '{LOOKUPS}', Attributes['kernob.dns.question.type'], "
    "Attributes['db.query.text'])",
}
"""What series of requests are told apart by: SQL over `kernob_series`."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which requests to look at; an empty text leaves nothing out.

    Attributes:
        service: its name.
        side: `server` or `client`.
        host: its name.
        peer: name of the other side.
    """

    service: str = ""
    side: str = ""
    host: str = ""
    peer: str = ""

    def which(self) -> Which:
        """Returns the series that these leave; the service is no part of it."""
        used = {
            name: (value, sql)
            for name, value, sql in (
                ("side", self.side, f"{_SIDE} = {{side:String}}"),
                ("host", self.host, "Host = {host:String}"),
                ("peer", self.peer, f"{_PEER} = {{peer:String}}"),
            )
            if value
        }
        if not used:
            return ALL
        return Which(
            " AND ".join(sql for _, sql in used.values()),
            {name: value for name, (value, _) in used.items()},
        )


def requests(
    reader: Reader,
    asked: Range,
    *,
    by: RequestGrouping = "service",
    only: Asked | None = None,
    limit: int = 500,
) -> Requests:
    """Returns how many requests there were, how they went and how long they took.

    The SQL is that of `histograms.recorded` over the five metrics of durations, the whole range as
    one step. Rows are told apart by side, too: who serves and who calls see one request each.

    Args:
        reader: of the store.
        asked: the range.
        by: what a row is; `name` is that of lookups.
        only: what to look at.
        limit: rows at most.

    Raises:
        StoreError: as `Reader.read`.
    """
    began = time.perf_counter()
    only = only or Asked()
    metrics = (LOOKUPS,) if by == "name" else METRICS
    found = recorded(
        reader, metrics, whole(asked), LABELS, only.which(), service=only.service,
        group=lambda labels: np.full(len(labels["side"]), -1, np.intp),
    )  # fmt: skip
    made = rows(found, by)
    made.sort(key=lambda row: -row.requests)
    shown = made[:limit]
    if by == "peer":
        shown = with_services(reader, asked, shown)
    return Requests(
        range=asked,
        by=by,
        rows=shown,
        rows_left_off=len(made) - len(shown),
        requests=sum(row.requests for row in made),
        errors=sum(row.errors for row in made),
        scale=found.frame.scale,
        provenance=provenance(
            reader,
            metrics,
            asked,
            host=only.host,
            points=found.points,
            seconds=time.perf_counter() - began,
            hooks=REQUEST_HOOKS,
        ),
    )


def key_of(by: RequestGrouping, labels: Mapping[str, Any]) -> tuple[str, str]:
    """Returns the key of a series' row, and its name."""
    if by == "operation":
        operation = labels["operation"] or UNKNOWN
        return f"{labels['protocol']} {operation}", operation
    return labels[by], labels[by]


def rows(
    found: Recorded, by: RequestGrouping, chosen: NDArray[np.bool_] | None = None
) -> list[RequestRow]:
    """Returns the rows of a table, those with requests, in the order of their names.

    Args:
        found: with `LABELS`.
        by: what a row is.
        chosen: shape (series,), those that count; None for all.
    """
    labels = [
        dict(zip(found.labels, values, strict=True))
        for values in zip(*found.labels.values(), strict=True)
    ]
    counts = found.counts[:, found.before :].sum(axis=1)
    sums = found.sums[:, found.before :].sum(axis=1)
    members: dict[tuple[str, str, str], list[int]] = {}
    for number, label in enumerate(labels):
        if counts[number] and (chosen is None or chosen[number]):
            members.setdefault((*key_of(by, label), label["side"]), []).append(number)
    if not members:
        return []
    of_side: dict[str, float] = defaultdict(float)
    for (_, _, side), numbers in members.items():
        of_side[side] += float(sums[numbers].sum())
    cells = np.array([found.of_series[numbers].sum(axis=0) for numbers in members.values()])
    quantiles = quantiles_of(cells, found.frame, QUANTILES)
    made = []
    for at, ((key, name, side), numbers) in enumerate(members.items()):
        failures = Counter[str]()
        for number in numbers:
            if labels[number]["error"]:
                failures[labels[number]["error"]] += round(counts[number])
        seconds = float(sums[numbers].sum())
        p50, p95, p99 = (float(value) for value in quantiles[at])
        made.append(
            RequestRow(
                key=key,
                name=name,
                side=cast("Side", side),
                protocols=sorted({labels[number]["protocol"] for number in numbers}),
                detail=_detail(labels[number]["detail"] for number in numbers),
                requests=round(counts[numbers].sum()),
                errors=failures.total(),
                failures=dict(failures.most_common(FAILURES)),
                seconds=seconds,
                share=seconds / of_side[side] if of_side[side] else 0.0,
                p50=p50,
                p95=p95,
                p99=p99,
                service=by == "service",
            )
        )
    return made


def _detail(texts: Iterable[str]) -> str:
    different = sorted(set(texts) - {""})
    more = f" and {len(different) - DETAILS} more" if len(different) > DETAILS else ""
    return ", ".join(different[:DETAILS]) + more


def with_services(reader: Reader, asked: Range, peers: Sequence[RequestRow]) -> list[RequestRow]:
    """Returns rows of peers, each with whether it is a service with requests of its own.

    Raises:
        StoreError: as `Reader.read`.
    """
    if not peers:
        return []
    found = reader.read(
        "SELECT DISTINCT Service AS name FROM kernob_series "
        f"WHERE MetricName IN {METRICS} AND Service IN {{names:Array(String)}} "
        "AND Day >= toDate(fromUnixTimestamp64Milli({start:Int64}), 'UTC') - 1 "
        "AND Day <= toDate(fromUnixTimestamp64Milli({end:Int64}), 'UTC') + 1",
        names=[row.key for row in peers],
        start=asked.start,
        end=asked.end,
    )
    services = set(found["name"].to_pylist())
    return [replace(row, service=row.key in services) for row in peers]
