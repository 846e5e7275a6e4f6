"""How the agents are: their state, what they cost, what they lost, what is off and why."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from kernob.queries.gauges import levels
from kernob.queries.model import AgentPart, AgentRow, Agents
from kernob.queries.provenance import at_host, provenance
from kernob.queries.ranges import times
from kernob.queries.rates import complete_steps, increases, totals
from kernob.queries.refused import refused

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kernob.queries.model import Range
    from kernob.queries.refused import Counted
    from kernob.store.engine import Reader

GONE: Final = 900_000
"""Milliseconds without a snapshot after which an agent is gone."""
LATE: Final = 3
"""Of its own intervals without a snapshot: it is late, if that is `PATIENCE` at least."""
PATIENCE: Final = 10_000
"""Milliseconds: a busy machine may keep an agent that sends each second from it for some."""
DAY: Final = 86_400_000
"""Milliseconds before the range's end that are searched for agents, if the range is shorter."""
SNAPSHOTS: Final = 6
"""Latest snapshots that an agent's interval is measured with."""

State = Literal["ok", "late", "gone"]


@dataclass(slots=True)
class _Agent:
    """An agent's latest snapshot.

    Attributes:
        gauges: values by metric and attribute.
        parts: reason by part; empty for what is on.
    """

    host: str
    instance: str
    version: str
    started: int
    last: int
    interval: int
    mode: str = ""
    series: int = 0
    gauges: dict[tuple[str, str], float] = field(default_factory=dict)
    parts: dict[str, str] = field(default_factory=dict)


def agents(
    reader: Reader,
    asked: Range,
    host: str = "",
    now: int | None = None,
    counted: Counted | None = None,
) -> Agents:
    """Returns all agents heard of within the range, or the day before its end, in trouble first.

    The SQL takes the latest points of `kernob.agent.collections`, which every snapshot has, then
    the other `kernob.agent.*` of those very moments; CPU and losses are increases, memory a mean.

    Args:
        reader: of the store.
        asked: the range.
        host: only the agent there; empty for all.
        now: the time, milliseconds since the Unix epoch.
        counted: what the server has in memory, see `refused`.

    Raises:
        StoreError: as `Reader.read`.
    """
    began = time.perf_counter()
    now = time.time_ns() // 1_000_000 if now is None else now
    known = _known(reader, asked, host, now)
    _read_snapshots(reader, asked, known, now)
    which = at_host(host)
    cpu = increases(reader, "kernob.agent.cpu.time", asked, {"host": "Host"}, which)
    cpu_lines = _by_host(cpu.labels["host"], cpu.rates)
    memory = levels(reader, "kernob.agent.memory.usage", asked, {"host": "Host"}, which)
    memory_lines = dict(zip(memory.labels["host"], memory.values, strict=True))
    lost = _lost(reader, asked, host)
    complete = complete_steps(asked, now)
    rows = [
        _row(
            agent,
            state(agent.last, agent.interval, min(now, asked.end)),
            lost.get(agent.host, {}),
            _known_until(cpu_lines.get(agent.host), complete),
            _known_until(memory_lines.get(agent.host), complete),
        )
        for agent in known.values()
    ]
    order = ("gone", "late", "ok")
    rows.sort(key=lambda row: (order.index(row.state), not row.lost, row.host))
    return Agents(
        range=asked,
        times=times(asked),
        rows=rows,
        refused=refused(reader, asked, now, counted),
        provenance=provenance(
            reader,
            ["kernob.agent.cpu.time", "kernob.agent.memory.usage", "kernob.agent.lost"],
            asked,
            host=host,
            points=cpu.points,
            seconds=time.perf_counter() - began,
        ),
    )


def state(last: int, interval: int, now: int) -> State:
    """Returns an agent's state by when it was heard of last; all in milliseconds."""
    silent = now - last
    if silent >= GONE:
        return "gone"
    return "late" if silent >= max(LATE * interval, PATIENCE) else "ok"


def _table(asked: Range, now: int) -> str:
    """Returns the finest table that still has what came before the range's end."""
    return "kernob_points" if asked.end > now - DAY // 2 else "kernob_points_1m"


def _known(reader: Reader, asked: Range, host: str, now: int) -> dict[str, _Agent]:
    which = at_host(host)
    start = min(asked.start, asked.end - DAY)
    found = reader.read(
        f"""
SELECT host, instance, version, toUnixTimestamp64Milli(Start) AS started, moments
FROM (
    SELECT SeriesId, Start, arraySlice(arrayReverseSort(groupUniqArray(
        toUnixTimestamp64Milli(toDateTime64(Time, 3)))), 1, {SNAPSHOTS}) AS moments
    FROM {_table(asked, now)}
    WHERE MetricName = 'kernob.agent.collections'
        AND Time >= fromUnixTimestamp64Milli({{start:Int64}})
        AND Time < fromUnixTimestamp64Milli({{end:Int64}})
    GROUP BY SeriesId, Start
) AS points INNER JOIN (
    SELECT SeriesId, any(Host) AS host, any(ResourceAttributes['service.version']) AS version,
        any(ResourceAttributes['service.instance.id']) AS instance
    FROM kernob_series WHERE MetricName = 'kernob.agent.collections' AND {which.sql}
        AND Day >= toDate(fromUnixTimestamp64Milli({{start:Int64}}), 'UTC') - 1
    GROUP BY SeriesId
) AS series USING SeriesId
ORDER BY moments[1]""",
        start=start,
        end=asked.end,
        **which.parameters,
    )
    known: dict[str, _Agent] = {}
    # In order of time: the latest of a host counts.
    for row in found.to_pylist():
        moments = row["moments"]
        spacing = (moments[0] - moments[-1]) // max(1, len(moments) - 1)
        before = known.get(row["host"])
        interval = spacing or (before.interval if before else asked.interval)
        known[row["host"]] = _Agent(
            row["host"], row["instance"], row["version"], row["started"], moments[0], interval
        )
    return known


def _read_snapshots(reader: Reader, asked: Range, known: dict[str, _Agent], now: int) -> None:
    """Adds what the latest snapshots say."""
    if not known:
        return
    table = _table(asked, now)
    value = "Value" if table == "kernob_points" else "Max"
    found = reader.read(
        f"""
SELECT host, MetricName, attributes, any(value) AS value FROM (
    SELECT SeriesId, MetricName, {value} AS value,
        toUnixTimestamp64Milli(toDateTime64(Time, 3)) AS time
    FROM {table} WHERE startsWith(MetricName, 'kernob.agent.')
        AND Time IN (SELECT fromUnixTimestamp64Milli(arrayJoin({{moments:Array(Int64)}})))
) AS points INNER JOIN (
    SELECT SeriesId, any(Host) AS host, any(Attributes) AS attributes,
        any(ResourceAttributes['service.instance.id']) AS instance
    FROM kernob_series WHERE startsWith(MetricName, 'kernob.agent.')
        AND Day >= toDate(fromUnixTimestamp64Milli({{first:Int64}}), 'UTC') - 1
    GROUP BY SeriesId
) AS series USING SeriesId
WHERE (host, instance, time) IN (SELECT arrayJoin(arrayZip(
    {{hosts:Array(String)}}, {{instances:Array(String)}}, {{moments:Array(Int64)}})))
GROUP BY host, MetricName, attributes""",
        moments=[agent.last for agent in known.values()],
        hosts=list(known),
        instances=[agent.instance for agent in known.values()],
        first=min(agent.last for agent in known.values()),
    )
    for row in found.to_pylist():
        _take(known[row["host"]], row["MetricName"], dict(row["attributes"]), row["value"])
    counted = reader.read(
        "SELECT Host, ResourceAttributes['service.instance.id'] AS instance, "
        "uniqExact(SeriesId) AS series FROM kernob_series "
        "WHERE Day >= toDate(fromUnixTimestamp64Milli({first:Int64}), 'UTC') "
        "AND Host IN {hosts:Array(String)} GROUP BY Host, instance",
        first=min(agent.last for agent in known.values()),
        hosts=list(known),
    )
    for row in counted.to_pylist():
        agent = known[row["Host"]]
        if row["instance"] == agent.instance:
            agent.series = row["series"]


def _take(agent: _Agent, metric: str, attributes: dict[str, str], value: float) -> None:
    if metric == "kernob.agent.info":
        agent.mode = attributes.get("kernob.agent.mode", "")
    elif metric == "kernob.agent.part":
        agent.parts[attributes.get("kernob.part", "")] = (
            "" if value else attributes.get("kernob.reason", "") or "off"
        )
    else:
        agent.gauges[metric, attributes.get("kernob.map", "")] = value


def _row(
    agent: _Agent,
    state_now: State,
    lost: dict[str, float],
    cpu: NDArray[np.float64] | None,
    memory: NDArray[np.float64] | None,
) -> AgentRow:
    def table(metric: str) -> dict[str, int]:
        name = f"kernob.agent.map.{metric}"
        return {key[1]: int(value) for key, value in agent.gauges.items() if key[0] == name}

    entries, capacity, bytes_kept = table("entries"), table("capacity"), table("memory")
    resident = agent.gauges.get(("kernob.agent.memory.usage", ""))
    delay = agent.gauges.get(("kernob.agent.export.delay", ""))
    known = None if cpu is None or np.isnan(cpu).all() else float(np.nanmean(cpu))
    return AgentRow(
        host=agent.host,
        state=state_now,
        version=agent.version,
        mode=agent.mode,
        started=agent.started,
        last=agent.last,
        interval=agent.interval,
        delay=None if delay is None else round(delay * 1000),
        cpu=known,
        memory=None if resident is None else int(resident),
        map_memory=sum(bytes_kept.values()) if bytes_kept else None,
        series=agent.series,
        lost=lost,
        fill={name: (count, capacity.get(name, 0)) for name, count in entries.items()},
        parts=[AgentPart(name, not reason, reason) for name, reason in sorted(agent.parts.items())],
        cpu_line=_numbers(cpu),
        memory_line=_numbers(memory),
    )


def _by_host(hosts: list[str], rates: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Returns rates by host: an agent that restarted is two senders, one after the other."""
    found: dict[str, NDArray[np.float64]] = {}
    for host, rate in zip(hosts, rates, strict=True):
        before = found.get(host)
        both = rate if before is None else np.nansum([before, rate], axis=0)
        silent = np.isnan(rate) & (True if before is None else np.isnan(before))
        found[host] = np.where(silent, np.nan, both)
    return found


def _lost(reader: Reader, asked: Range, host: str) -> dict[str, dict[str, float]]:
    labels = {"host": "Host", "reason": "Attributes['reason']"}
    found: dict[str, dict[str, float]] = defaultdict(dict)
    counts = totals(reader, "kernob.agent.lost", asked, labels, at_host(host))
    for (at, reason), count in counts.items():
        found[at][reason] = count
    return found


def _known_until(line: NDArray[np.float64] | None, complete: int) -> NDArray[np.float64] | None:
    if line is not None:
        line = line.copy()
        line[complete:] = np.nan
    return line


def _numbers(line: NDArray[np.float64] | None) -> list[float | None]:
    values: list[Any] = [] if line is None else line.tolist()
    return [None if value != value else value for value in values]  # noqa: PLR0124  (NaN)
