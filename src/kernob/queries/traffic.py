"""Who uses the network: by service, process, peer or host, over time and in total.

A process is told by host, pid and program: its series' start is no part of it, since that moves
when the agent restarts. Two runs of one program under the same pid within a range are one row.
Its key, for links, is `host:pid`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from kernob.errors import QueryError
from kernob.queries.gauges import latest
from kernob.queries.marks import marks
from kernob.queries.model import Line, Traffic, TrafficRow
from kernob.queries.provenance import provenance
from kernob.queries.ranges import times
from kernob.queries.rates import complete_steps, increases, totals
from kernob.queries.runs import ALL, Which

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from kernob.queries.model import Direction, Grouping, Range
    from kernob.store.engine import Reader

SERVICE_IO: Final = "kernob.network.io"
PROCESS_IO: Final = "process.network.io"
OPERATIONS: Final = "kernob.network.operations"
CONNECTIONS: Final = "kernob.connections"
OTHERS: Final = "others"
PAUSE: Final = 60_000
"""Milliseconds that something may be silent and still be one stretch; or three steps."""

_PEER: Final = "Attributes['kernob.peer']"
_PID: Final = "Attributes['process.pid']"
_PROGRAM: Final = "Attributes['process.executable.name']"
_DIRECTION: Final = "Attributes['network.io.direction']"
_KEYS: Final = {
    "service": "Service",
    "process": f"concat(Host, ':', {_PID}, ':', {_PROGRAM})",
    "peer": _PEER,
    "host": "Host",
}


@dataclass(frozen=True, slots=True)
class Filters:
    """What traffic to look at; an empty text leaves nothing out.

    Attributes:
        service: its name.
        process: `host:pid`.
        host: its name.
        peer: its name or address.
        text: anything that service, host, peer or program contain, in any case.
    """

    service: str = ""
    process: str = ""
    host: str = ""
    peer: str = ""
    text: str = ""

    def which(self) -> Which:
        """Returns the series that these leave.

        Raises:
            QueryError: `process` is not host and pid.
        """
        host, colon, pid = self.process.rpartition(":")
        if self.process and not (colon and pid.isdecimal()):
            raise QueryError(
                f"{self.process[:64]!r} is no process", remedy="write host:pid, as in web-1:4242"
            )
        conditions = {
            "service": (self.service, "Service = {service:String}"),
            "process_host": (host, "Host = {process_host:String}"),
            "pid": (pid, f"{_PID} = {{pid:String}}"),
            "host": (self.host, "Host = {host:String}"),
            "peer": (self.peer, f"{_PEER} = {{peer:String}}"),
            "text": (
                self.text,
                "positionCaseInsensitiveUTF8(concat(Service, '\\n', Host, '\\n', "
                f"{_PEER}, '\\n', {_PROGRAM}), {{text:String}}) > 0",
            ),
        }
        used = {name: (value, sql) for name, (value, sql) in conditions.items() if value}
        if not used:
            return ALL
        return Which(
            " AND ".join(sql for _, sql in used.values()),
            {name: value for name, (value, _) in used.items()},
        )


def traffic(
    reader: Reader,
    asked: Range,
    *,
    by: Grouping = "service",
    filters: Filters | None = None,
    direction: Direction = "both",
    limit: int = 500,
    top: int = 10,
    now: int | None = None,
) -> Traffic:
    """Returns who moved how much, the largest first.

    The SQL is that of `rates.increases` over `kernob.network.io`, or `process.network.io` where
    processes are asked for, by name, host and direction; calls are the increases of
    `kernob.network.operations`, connections the latest points of `kernob.connections`.

    Args:
        reader: of the store.
        asked: the range.
        by: what a row is.
        filters: what to look at.
        direction: what `the largest` goes by.
        limit: rows at most.
        top: lines at most, besides `others`.
        now: the time, milliseconds since the Unix epoch; steps that are not over have no rate.

    Raises:
        QueryError: a filter means nothing.
        StoreError: as `Reader.read`.
    """
    began = time.perf_counter()
    filters = filters or Filters()
    groups = moved(reader, asked, by, complete_steps(asked, now), filters)
    metrics = [groups.metric]
    if groups.metric == SERVICE_IO:
        which = filters.which()
        groups = replace(
            groups,
            calls=_calls(reader, asked, by, which),
            connections=latest(reader, CONNECTIONS, asked, _KEYS[by], which),
        )
        metrics += [OPERATIONS, CONNECTIONS]
    order = groups.order(direction)
    return Traffic(
        range=asked,
        by=by,
        times=times(asked),
        lines=groups.lines(order, top),
        rows=[groups.row(int(at)) for at in order[:limit]],
        rows_left_off=max(0, len(order) - limit),
        transmit=round(groups.totals[:, 0].sum()),
        receive=round(groups.totals[:, 1].sum()),
        marks=marks(reader, asked, filters.host, filters.service),
        provenance=provenance(
            reader,
            metrics,
            asked,
            host=filters.host,
            points=groups.points,
            seconds=time.perf_counter() - began,
        ),
    )


@dataclass(frozen=True, slots=True)
class Moved:
    """Increases added up by key, n of them; the second axis is direction: transmit, receive.

    Attributes:
        asked: the range.
        by: what a key is.
        metric: that was read.
        complete: steps of the range that are over.
        points: that were read.
        keys: of each.
        services: of each process.
        hosts: names, of each.
        totals: shape (n, 2), bytes.
        rates: shape (n, 2, steps), bytes per second; NaN where nothing was measured.
        active: shape (n, steps): something moved.
        peers: shape (n,): different ones that something was moved with.
        calls: that moved data, by key; None if they were not asked for.
        connections: open now, by key; as `calls`.
    """

    asked: Range
    by: Grouping
    metric: str
    complete: int
    points: int
    keys: list[str]
    services: list[str]
    hosts: list[list[str]]
    totals: NDArray[np.float64]
    rates: NDArray[np.float64]
    active: NDArray[np.bool_]
    peers: NDArray[np.intp]
    calls: dict[str, int] | None = None
    connections: dict[str, int] | None = None

    def order(self, direction: Direction) -> NDArray[np.intp]:
        """Returns the numbers of those that moved something, the largest first."""
        transmit, receive = self.totals.T
        size = {"transmit": transmit, "receive": receive}.get(direction, transmit + receive)
        order = np.argsort(-size, kind="stable")
        moving: NDArray[np.intp] = order[size[order] > 0]
        return moving

    def now(self) -> NDArray[np.float64]:
        """Returns the rates over the latest step that is complete, shape (n, 2); 0 if unknown."""
        if not self.complete:
            return np.zeros((len(self.keys), 2))
        rates: NDArray[np.float64] = np.nan_to_num(self.rates[:, :, self.complete - 1])
        return rates

    def row(self, at: int) -> TrafficRow:
        """Returns one as a row of the table."""
        key = self.keys[at]
        host, pid, name = _process(key) if self.by == "process" else ("", 0, key)
        since, last = _stretch(self.active[at], self.asked, self.complete)
        rates = self.now()[at]
        service = {"process": self.services[at], "service": key}.get(self.by, "")
        return TrafficRow(
            name=name,
            service=service,
            hosts=self.hosts[at],
            pid=pid,
            transmit_rate=float(rates[0]),
            receive_rate=float(rates[1]),
            transmit=round(self.totals[at, 0]),
            receive=round(self.totals[at, 1]),
            operations=None if self.calls is None else self.calls.get(key, 0),
            peers=int(self.peers[at]),
            connections=None if self.connections is None else self.connections.get(key, 0),
            since=since,
            last=last,
            key=f"{host}:{pid}" if self.by == "process" else key,
        )

    def lines(self, order: NDArray[np.intp], top: int) -> list[Line]:
        """Returns the first `top` of an order as lines, and the rest as one."""
        names = _line_names([self.keys[at] for at in order[:top]], self.by)
        lines = [
            _line(name, self.rates[at], _key(self.keys[at], self.by))
            for name, at in zip(names, order[:top], strict=True)
        ]
        rest = self.rates[order[top:]]
        if len(rest):
            silent = np.isnan(rest).all(axis=0)
            lines.append(_line(OTHERS, np.where(silent, np.nan, np.nansum(rest, axis=0)), ""))
        return lines


def moved(
    reader: Reader,
    asked: Range,
    by: Grouping,
    complete: int,
    filters: Filters | None = None,
    distinct: str = _PEER,
) -> Moved:
    """Returns who moved how much, by `by`.

    Args:
        reader: of the store.
        asked: the range.
        by: what is told apart.
        complete: steps of the range that are over.
        filters: what to look at.
        distinct: SQL of what `Moved.peers` counts.

    Raises:
        QueryError: a filter means nothing.
        StoreError: as `Reader.read`.
    """
    filters = filters or Filters()
    metric = PROCESS_IO if by == "process" or filters.process else SERVICE_IO
    labels = {"key": _KEYS[by], "service": "Service", "host": "Host", "direction": _DIRECTION}
    grown = increases(reader, metric, asked, labels, filters.which(), distinct)
    number = {key: at for at, key in enumerate(dict.fromkeys(grown.labels["key"]))}
    size, steps = len(number), grown.values.shape[1]
    group = np.array([number[key] for key in grown.labels["key"]], np.intp)
    way = np.array([way != "transmit" for way in grown.labels["direction"]], np.intp)
    moved_totals = np.zeros((size, 2))
    np.add.at(moved_totals, (group, way), grown.values.sum(axis=1))
    rates = np.zeros((size, 2, steps))
    np.add.at(rates, (group, way), np.nan_to_num(grown.rates))
    heard, active = np.zeros((2, size, steps), np.bool_)
    np.logical_or.at(heard, group, ~np.isnan(grown.rates))
    np.logical_or.at(active, group, grown.values > 0)
    rates[~np.broadcast_to(heard[:, None], rates.shape)] = np.nan
    rates[:, :, complete:] = np.nan
    hosts: list[set[str]] = [set() for _ in number]
    services = [""] * size
    for at, host, service in zip(group, grown.labels["host"], grown.labels["service"], strict=True):
        hosts[at].add(host)
        services[at] = service
    told_apart = grown.distinct.copy()
    told_apart[:, 0] = group[grown.distinct[:, 0].astype(np.intp)]
    owners = np.unique(told_apart, axis=0)[:, 0].astype(np.intp)
    return Moved(
        asked=asked,
        by=by,
        metric=metric,
        complete=complete,
        points=grown.points,
        keys=list(number),
        services=services,
        hosts=[sorted(names - {""}) for names in hosts],
        totals=moved_totals,
        rates=rates,
        active=active,
        peers=np.bincount(owners, minlength=size),
    )


def _process(key: str) -> tuple[str, int, str]:
    """Returns host, pid and program of a process's key."""
    host, pid, program = key.split(":", 2)
    return host, int(pid or 0), program


def _key(key: str, by: Grouping) -> str:
    """Returns what the filter of a key's kind takes."""
    return ":".join(key.split(":", 2)[:2]) if by == "process" else key


def _line_names(keys: Sequence[str], by: Grouping) -> list[str]:
    """Returns what lines are called: of processes the program and pid, and the host if several."""
    if by != "process":
        return list(keys)
    processes = [_process(key) for key in keys]
    several = len({host for host, _, _ in processes}) > 1
    return [
        f"{program} {pid}" + (f" @ {host}" if several else "") for host, pid, program in processes
    ]


def _stretch(
    active: NDArray[np.bool_], asked: Range, complete: int
) -> tuple[int | None, int | None]:
    """Returns when the latest stretch of activity began, if it still goes on, and the last one."""
    steps = np.flatnonzero(active)
    if not len(steps):
        return None, None
    last = asked.start + int(steps[-1]) * asked.step
    pause = max(3, -(-PAUSE // asked.step))
    if complete - 1 - steps[-1] > pause:
        return None, last
    breaks = np.flatnonzero(np.diff(steps) > pause)
    first = steps[breaks[-1] + 1] if len(breaks) else steps[0]
    return asked.start + int(first) * asked.step, last


def _line(name: str, rates: NDArray[np.float64], key: str) -> Line:
    return Line(name, numbers(rates[0]), numbers(rates[1]), key)


def numbers(values: NDArray[np.float64]) -> list[float | None]:
    """Returns a list with None for NaN; three decimals of a byte are enough."""
    known: list[Any] = np.round(values, 3).tolist()
    return [None if value != value else value for value in known]  # noqa: PLR0124  (NaN)


def _calls(reader: Reader, asked: Range, by: Grouping, which: Which) -> dict[str, int]:
    """Returns the calls that moved data within the range, by key."""
    found = totals(reader, OPERATIONS, asked, {"key": _KEYS[by]}, which)
    return {key: round(count) for (key,), count in found.items()}
