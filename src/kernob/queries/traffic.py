"""Who uses the network: by service, process, peer or host, over time and in total.

A process is told by host, pid and program: its series' start is no part of it, since that moves
when the agent restarts. Two runs of one program under the same pid within a range are one row.
Its key, for links, is `host:pid`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from kernob.errors import QueryError
from kernob.queries.marks import marks
from kernob.queries.model import Line, Traffic, TrafficRow
from kernob.queries.provenance import provenance
from kernob.queries.ranges import times
from kernob.queries.rates import Which, complete_steps, increases, latest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from kernob.queries.model import Direction, Grouping, Range
    from kernob.queries.rates import Increases
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
        return Which(
            " AND ".join(sql for _, sql in used.values()) or "1",
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
    top: int = 8,
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
    which = filters.which()
    of_processes = by == "process" or bool(filters.process)
    metric = PROCESS_IO if of_processes else SERVICE_IO
    moved = increases(
        reader,
        metric,
        asked,
        {"key": _KEYS[by], "service": "Service", "host": "Host", "direction": _DIRECTION},
        which,
        distinct=_PEER,
    )
    groups = _groups(moved, complete_steps(asked, now))
    order = groups.order(direction)
    shown = order[:limit]
    calls, open_now = None, None
    metrics = [metric]
    if not of_processes:
        calls = _calls(reader, asked, by, which)
        open_now = latest(reader, CONNECTIONS, asked, _KEYS[by], which)
        metrics += [OPERATIONS, CONNECTIONS]
    rows = [_row(groups, int(at), by, asked, calls, open_now) for at in shown]
    lines = _lines(groups, order, by, top)
    return Traffic(
        range=asked,
        by=by,
        times=times(asked),
        lines=lines,
        rows=rows,
        rows_left_off=len(order) - len(shown),
        transmit=round(groups.totals[:, 0].sum()),
        receive=round(groups.totals[:, 1].sum()),
        marks=marks(reader, asked, filters.host),
        provenance=provenance(
            reader,
            metrics,
            asked,
            host=filters.host,
            points=moved.points,
            seconds=time.perf_counter() - began,
        ),
    )


@dataclass(frozen=True, slots=True)
class _Groups:
    """Increases added up by key, n of them; the second axis is direction: transmit, receive.

    Attributes:
        keys, services: of each.
        hosts: names, of each.
        totals: shape (n, 2).
        rates: shape (n, 2, steps), NaN where nothing was measured.
        active: shape (n, steps): something moved.
        peers: shape (n,).
        complete: steps that are over.
    """

    keys: list[str]
    services: list[str]
    hosts: list[list[str]]
    totals: NDArray[np.float64]
    rates: NDArray[np.float64]
    active: NDArray[np.bool_]
    peers: NDArray[np.intp]
    complete: int

    def order(self, direction: Direction) -> NDArray[np.intp]:
        """Returns the groups that moved something, the largest first."""
        chosen = {"both": self.totals.sum(axis=1), "transmit": self.totals[:, 0]}
        size = chosen.get(direction, self.totals[:, 1])
        order = np.argsort(-size, kind="stable")
        moving: NDArray[np.intp] = order[size[order] > 0]
        return moving


def _groups(moved: Increases, complete: int) -> _Groups:
    keys = list(dict.fromkeys(moved.labels["key"]))
    number = {key: at for at, key in enumerate(keys)}
    group = np.array([number[key] for key in moved.labels["key"]], np.intp)
    way = np.array([d != "transmit" for d in moved.labels["direction"]], np.intp)
    steps = moved.values.shape[1]
    totals = np.zeros((len(keys), 2))
    np.add.at(totals, (group, way), moved.values.sum(axis=1))
    rates = np.zeros((len(keys), 2, steps))
    np.add.at(rates, (group, way), np.nan_to_num(moved.rates))
    heard = np.zeros((len(keys), steps), np.bool_)
    np.logical_or.at(heard, group, ~np.isnan(moved.rates))
    active = np.zeros((len(keys), steps), np.bool_)
    np.logical_or.at(active, group, moved.values > 0)
    rates[~np.broadcast_to(heard[:, None], rates.shape)] = np.nan
    rates[:, :, complete:] = np.nan
    hosts: list[dict[str, None]] = [{} for _ in keys]
    services = [""] * len(keys)
    for at, host, service in zip(group, moved.labels["host"], moved.labels["service"], strict=True):
        hosts[at][host] = None
        services[at] = service
    told_apart = moved.distinct.copy()
    told_apart[:, 0] = group[moved.distinct[:, 0].astype(np.intp)]
    peers = np.bincount(np.unique(told_apart, axis=0)[:, 0].astype(np.intp), minlength=len(keys))
    return _Groups(
        keys, services, [sorted(filter(None, h)) for h in hosts], totals, rates, active, peers,
        complete,
    )  # fmt: skip


def _row(
    groups: _Groups,
    at: int,
    by: Grouping,
    asked: Range,
    calls: dict[str, int] | None,
    open_now: dict[str, int] | None,
) -> TrafficRow:
    key = groups.keys[at]
    host, pid, name = _process(key) if by == "process" else ("", 0, key)
    since, last = _stretch(groups.active[at], asked, groups.complete)
    now = np.nan_to_num(groups.rates[at, :, groups.complete - 1]) if groups.complete else (0, 0)
    return TrafficRow(
        name=name,
        service=groups.services[at] if by == "process" else name if by == "service" else "",
        hosts=groups.hosts[at],
        pid=pid,
        transmit_rate=float(now[0]),
        receive_rate=float(now[1]),
        transmit=round(groups.totals[at, 0]),
        receive=round(groups.totals[at, 1]),
        operations=None if calls is None else calls.get(key, 0),
        peers=int(groups.peers[at]),
        connections=None if open_now is None else open_now.get(key, 0),
        since=since,
        last=last,
        key=f"{host}:{pid}" if by == "process" else key,
    )


def _process(key: str) -> tuple[str, int, str]:
    """Returns host, pid and program of a process's key."""
    host, pid, program = key.split(":", 2)
    return host, int(pid or 0), program


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


def _lines(groups: _Groups, order: NDArray[np.intp], by: Grouping, top: int) -> list[Line]:
    names = _line_names([groups.keys[at] for at in order[:top]], by)
    lines = [
        _line(names[n], groups.rates[at], _key(groups.keys[at], by))
        for n, at in enumerate(order[:top])
    ]
    rest = groups.rates[order[top:]]
    if len(rest):
        silent = np.isnan(rest).all(axis=0)
        summed = np.where(silent, np.nan, np.nansum(rest, axis=0))
        lines.append(_line(OTHERS, summed, ""))
    return lines


def _key(key: str, by: Grouping) -> str:
    return key.rpartition(":")[0] if by == "process" else key


def _line_names(keys: Sequence[str], by: Grouping) -> list[str]:
    """Returns what lines are called: of processes the program and pid, and the host if several."""
    if by != "process":
        return list(keys)
    processes = [_process(key) for key in keys]
    several = len({host for host, _, _ in processes}) > 1
    return [
        f"{program} {pid}" + (f" @ {host}" if several else "") for host, pid, program in processes
    ]


def _line(name: str, rates: NDArray[np.float64], key: str) -> Line:
    transmit, receive = (_numbers(rate) for rate in rates)
    return Line(name, transmit, receive, key)


def _numbers(values: NDArray[np.float64]) -> list[float | None]:
    """Returns a list with None for NaN; three decimals of a byte are enough."""
    known: list[Any] = np.round(values, 3).tolist()
    return [None if value != value else value for value in known]  # noqa: PLR0124  (NaN)


def _calls(reader: Reader, asked: Range, by: Grouping, which: Which) -> dict[str, int]:
    """Returns the calls that moved data within the range, by key."""
    grown = increases(reader, OPERATIONS, asked, {"key": _KEYS[by]}, which)
    found: dict[str, int] = {}
    for key, total in zip(grown.labels["key"], grown.values.sum(axis=1), strict=True):
        found[key] = found.get(key, 0) + round(total)
    return found
