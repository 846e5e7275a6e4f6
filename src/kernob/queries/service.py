"""One service's requests: over time, in buckets, by operation, by peer, and names it looks up."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from kernob.queries.histograms import recorded, stepwise
from kernob.queries.marks import marks
from kernob.queries.model_requests import HeatMap, Missed, RequestLines, RequestRow, Service
from kernob.queries.percentiles import quantiles_of
from kernob.queries.provenance import REQUEST_HOOKS, provenance
from kernob.queries.ranges import times
from kernob.queries.rates import complete_steps, spread, totals
from kernob.queries.requests import LABELS, LOOKUPS, METRICS, QUANTILES, key_of, rows, with_services
from kernob.queries.runs import Which

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kernob.queries.histograms import Recorded
    from kernob.queries.model import Range, Side
    from kernob.queries.stored import Frame, Labels
    from kernob.store.engine import Reader

HEAT_BUCKETS: Final = 48
"""Rows of a heat map at most: beyond that two buckets are put together, and two again."""

_Miss = Literal["unpaired", "unseen", "unanswered", "one_way"]
_SIDES: Final[tuple[Side, ...]] = ("server", "client")
_OF_HOSTS: Final[dict[_Miss, str]] = {
    "unpaired": "kernob.agent.requests.unpaired",
    "unseen": "kernob.agent.requests.unseen",
}
_OWN: Final[dict[_Miss, str]] = {
    "unanswered": "kernob.requests.unanswered",
    "one_way": "kernob.requests.one_way",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """What of a service to look at; an empty text leaves nothing out.

    Attributes:
        side: `server` or `client`; empty for the one with more requests.
        operation: key of one (`RequestRow.key`).
        peer: name of one.
    """

    side: str = ""
    operation: str = ""
    peer: str = ""


def service(
    reader: Reader,
    asked: Range,
    name: str,
    choice: Choice | None = None,
    *,
    limit: int = 500,
    now: int | None = None,
) -> Service:
    """Returns how requests of a service went.

    The SQL is that of `histograms.recorded`: all series of the service are read once, and added up
    in numpy for the lines, the heat map and each table.

    Args:
        reader: of the store.
        asked: the range.
        name: of the service.
        choice: what of it to look at.
        limit: rows of each table at most.
        now: the time, milliseconds since the Unix epoch; steps that are not over have no rate.

    Raises:
        StoreError: as `Reader.read`.
    """
    began = time.perf_counter()
    choice = choice or Choice()
    found = recorded(
        reader, METRICS, stepwise(asked), LABELS, service=name,
        group=lambda labels: _groups(labels, choice),
    )  # fmt: skip
    sides = _sides(found)
    side = next((one for one in _SIDES if one == choice.side), sides[0].side if sides else "server")
    own = _of_side(found.labels, side)
    of_operation = _operations(found.labels, choice.operation)
    of_peer = _peers(found.labels, choice.peer)
    operations = _slowest(rows(found, "operation", own & of_peer))
    peers = _slowest(rows(found, "peer", own & of_operation))
    lookups = np.array([metric == LOOKUPS for metric in found.labels["metric"]], np.bool_)
    calling = np.array([one == "client" for one in found.labels["side"]], np.bool_)
    names = _slowest(rows(found, "name", lookups & calling))
    group = _SIDES.index(side)
    of_steps = found.of_steps[group] if len(found.of_steps) > group else None
    complete = complete_steps(asked, now)
    return Service(
        range=asked,
        times=times(asked),
        name=name,
        side=side,
        sides=sides,
        lines=_lines(found, own & of_operation & of_peer, of_steps, asked.step, complete),
        heat=_heat(of_steps, found.before, found.frame),
        operations=operations[:limit],
        peers=with_services(reader, asked, peers[:limit]),
        names=names[:limit],
        rows_left_off=sum(max(0, len(table) - limit) for table in (operations, peers, names)),
        missed=_missed(reader, asked, name, {"", *found.labels["protocol"]}),
        known=bool(found.labels["side"]) or _moves(reader, asked, name),
        marks=marks(reader, asked, service=name),
        provenance=provenance(
            reader,
            sorted(set(found.labels["metric"])),
            asked,
            points=found.points,
            seconds=time.perf_counter() - began,
            hooks=REQUEST_HOOKS,
            which=_its_hosts(name),
        ),
    )


# -- which series ----------------------------------------------------------------------------------


def _of_side(labels: Labels, side: Side) -> NDArray[np.bool_]:
    """Returns which series a side is about: lookups only if it has nothing else."""
    own = np.array([one == side for one in labels["side"]], np.bool_)
    others = own & np.array([metric != LOOKUPS for metric in labels["metric"]], np.bool_)
    return others if others.any() else own


def _operations(labels: Labels, operation: str) -> NDArray[np.bool_]:
    each = (dict(zip(labels, one, strict=True)) for one in zip(*labels.values(), strict=True))
    return np.array(
        [not operation or key_of("operation", one)[0] == operation for one in each], np.bool_
    )


def _peers(labels: Labels, peer: str) -> NDArray[np.bool_]:
    return np.array([not peer or one == peer for one in labels["peer"]], np.bool_)


def _groups(labels: Labels, choice: Choice) -> NDArray[np.intp]:
    """Returns the number of each series' side, -1 for those that were not asked for."""
    chosen = _operations(labels, choice.operation) & _peers(labels, choice.peer)
    groups = np.full(len(chosen), -1, np.intp)
    for number, side in enumerate(_SIDES):
        groups[_of_side(labels, side) & chosen] = number
    return groups


# -- what they add up to ---------------------------------------------------------------------------


def _sides(found: Recorded) -> list[RequestRow]:
    """Returns both sides in total, the busier one first."""
    sides = [row for side in _SIDES for row in rows(found, "service", _of_side(found.labels, side))]
    return sorted(sides, key=lambda row: -row.requests)


def _slowest(found: list[RequestRow]) -> list[RequestRow]:
    return sorted(found, key=lambda row: (-row.seconds, row.key))


def _lines(
    found: Recorded,
    chosen: NDArray[np.bool_],
    of_steps: NDArray[np.float64] | None,
    step: int,
    complete: int,
) -> RequestLines:
    failed = chosen & np.array([bool(error) for error in found.labels["error"]], np.bool_)
    rate, errors = (
        _numbers(_rate(found, which, heard=chosen) * (1000 / step), complete)
        for which in (chosen, failed)
    )
    steps = found.counts.shape[1] - found.before
    marks = np.full((steps, len(QUANTILES)), np.nan)
    if of_steps is not None:
        marks = quantiles_of(of_steps[found.before :], found.frame, QUANTILES)
    p50, p95, p99 = (_numbers(values, complete) for values in marks.T)
    return RequestLines(rate, errors, p50, p95, p99)


def _rate(
    found: Recorded, which: NDArray[np.bool_], heard: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Returns requests per step, shape (steps,); NaN where no sender was heard of."""
    senders = np.unique(found.sender[heard])
    values = np.zeros((len(senders), found.counts.shape[1]))
    np.add.at(values, np.searchsorted(senders, found.sender[which]), found.counts[which])
    spreaded = spread(
        values,
        np.arange(len(senders)),
        found.heard[senders],
        found.unknown[senders],
        found.snapshots[senders],
    )[:, found.before :]
    silent = np.isnan(spreaded).all(axis=0)
    return np.where(silent, np.nan, np.nansum(spreaded, axis=0))


def _numbers(values: NDArray[np.float64], complete: int) -> list[float | None]:
    """Returns a list with None for NaN, and for steps that are not over."""
    known = [float(f"{value:.6g}") for value in values[:complete].tolist()]
    return [
        *(None if value != value else value for value in known),  # noqa: PLR0124  (NaN)
        *[None] * (len(values) - complete),
    ]


def _heat(of_steps: NDArray[np.float64] | None, before: int, frame: Frame) -> HeatMap:
    """Returns the buckets that hold something, and those between them; no more than are seen."""
    empty = HeatMap(frame.scale, [], [])
    if of_steps is None:
        return empty
    counts = of_steps[before:]
    used = np.flatnonzero(counts[:, 1:].any(axis=0))
    if not len(used):
        return empty
    scale, first, last = frame.scale, frame.lowest + int(used[0]), frame.lowest + int(used[-1])
    index = np.arange(frame.lowest, frame.lowest + frame.width - 1)
    while last - first >= HEAT_BUCKETS:
        scale, first, last, index = scale - 1, first >> 1, last >> 1, index >> 1
    inside = (index >= first) & (index <= last)
    made = np.zeros((len(counts), last - first + 1))
    np.add.at(made.T, index[inside] - first, counts[:, 1:][:, inside].T)
    # What took no time at all is shown with the fastest.
    made[:, 0] += counts[:, 0]
    bounds = np.exp2(np.arange(first, last + 2) * 2.0**-scale)
    return HeatMap(scale, bounds.tolist(), made.round().astype(np.int64).tolist())


# -- what is not among them ------------------------------------------------------------------------


def _its_hosts(name: str) -> Which:
    """Returns what is of the hosts where a service has requests, agents included."""
    return Which(
        "Host IN (SELECT Host FROM kernob_series WHERE Service = {service:String} "
        f"AND MetricName IN {METRICS})",
        {"service": name},
    )


def _missed(reader: Reader, asked: Range, name: str, protocols: set[str]) -> list[Missed]:
    """Returns what is not among the figures, the most first: of the protocols that it speaks."""
    of = {"service": name}
    labels = {"protocol": "Attributes['network.protocol.name']", "reason": "Attributes['reason']"}
    hosts = _its_hosts(name)
    found = []
    for kind, metric, which in (
        *((kind, metric, hosts) for kind, metric in _OF_HOSTS.items()),
        *((kind, metric, Which("Service = {service:String}", of)) for kind, metric in _OWN.items()),
    ):
        for (protocol, reason), count in totals(reader, metric, asked, labels, which).items():
            if protocol in protocols:
                found.append(Missed(kind, protocol, reason, round(count)))
    return sorted(found, key=lambda one: -one.count)


def _moves(reader: Reader, asked: Range, name: str) -> bool:
    found = reader.read(
        "SELECT count() > 0 AS known FROM kernob_series WHERE Service = {name:String} "
        "AND Day >= toDate(fromUnixTimestamp64Milli({start:Int64}), 'UTC') - 1 "
        "AND Day <= toDate(fromUnixTimestamp64Milli({end:Int64}), 'UTC') + 1",
        name=name,
        start=asked.start,
        end=asked.end,
    )
    return bool(found["known"][0].as_py())
