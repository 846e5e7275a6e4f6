"""Is anything wrong now, and who is busy?"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import numpy as np

from kernob.queries import agents
from kernob.queries.health import health
from kernob.queries.marks import marks
from kernob.queries.model import Finding, HostRow, Overview, Sender
from kernob.queries.provenance import provenance
from kernob.queries.ranges import times
from kernob.queries.rates import complete_steps
from kernob.queries.traffic import SERVICE_IO, Moved, moved, numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kernob.queries.agents import State
    from kernob.queries.model import AgentRow, Agents, Health, Range
    from kernob.store.engine import Reader

BUSIEST: Final = 8
HEALTHS: Final = 8
"""Services whose requests are told of."""
SENDERS: Final = 20
FULL: Final = 0.9
"""Share of a table in the kernel from which on it is worth a word."""


def overview(reader: Reader, asked: Range, now: int | None = None) -> Overview:
    """Returns what is wrong, the hosts, how requests go, and the busiest services.

    The SQL is that of `traffic`, `agents` and `health`; senders are counted in the tables
    of each signal.

    Args:
        reader: of the store.
        asked: the range.
        now: the time, milliseconds since the Unix epoch.

    Raises:
        StoreError: as `Reader.read`.
    """
    began = time.perf_counter()
    now = time.time_ns() // 1_000_000 if now is None else now
    complete = complete_steps(asked, now)
    of_services = moved(reader, asked, "service", complete)
    heard = agents.agents(reader, asked, now=now)
    rates = of_services.now().sum(axis=1)
    busiest = [int(at) for at in np.argsort(-rates, kind="stable")[:BUSIEST] if rates[at] > 0]
    senders = _senders(reader, asked)
    healths = health(reader, asked, now)
    return Overview(
        range=asked,
        times=times(asked),
        findings=findings(heard, min(now, asked.end), healths),
        hosts=_hosts(reader, asked, heard, complete),
        services=len(of_services.order("both")),
        health=healths[:HEALTHS],
        busy=[of_services.row(at) for at in busiest],
        lines=of_services.lines(of_services.order("both"), BUSIEST),
        marks=marks(reader, asked),
        senders=senders,
        empty=not of_services.keys and not heard.rows and not senders and _empty(reader),
        provenance=provenance(
            reader,
            [SERVICE_IO],
            asked,
            points=of_services.points,
            seconds=time.perf_counter() - began,
        ),
    )


def _hosts(reader: Reader, asked: Range, heard: Agents, complete: int) -> list[HostRow]:
    """Returns the hosts of agents, in trouble first; then those that moved bytes without one."""
    of_hosts: Moved = moved(reader, asked, "host", complete, distinct="Service")
    rates = of_hosts.now()
    at = {host: number for number, host in enumerate(of_hosts.keys)}
    states: dict[str, State] = {row.host: row.state for row in heard.rows}
    rows = []
    for host in [*states, *(host for host in at if host not in states)]:
        number = at.get(host)
        rows.append(
            HostRow(
                host=host,
                state=states.get(host, "none"),
                services=0 if number is None else int(of_hosts.peers[number]),
                transmit_rate=0.0 if number is None else float(rates[number, 0]),
                receive_rate=0.0 if number is None else float(rates[number, 1]),
                line=[None] * len(times(asked))
                if number is None
                else numbers(of_hosts.rates[number].sum(axis=0)),
            )
        )
    return rows


def findings(heard: Agents, now: int, healths: Sequence[Health] = ()) -> list[Finding]:
    """Returns what is wrong with services, agents and the server, worst first, each in words."""
    found = [
        Finding(one.state, one.why, f"/service?name={quote(one.service)}&side={one.side}")
        for one in healths
        if one.state != "ok"
    ]
    found += [finding for agent in heard.rows for finding in _of_agent(agent, now)]
    for row in heard.refused.rows:
        many = _many(row.requests, "request") if row.requests else _many(row.records or 0, "record")
        why = f"{row.signal}: {row.reason}"
        text = f"The server refused {many} ({why}): see what their sender logs."
        found.append(Finding("attention", text, "/agents"))
    return sorted(found, key=lambda finding: finding.severity != "bad")


def _many(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _of_agent(row: AgentRow, now: int) -> list[Finding]:
    link = f"/agents?host={quote(row.host)}"
    found = []
    silent = _duration(now - row.last)
    if row.state == "gone":
        text = f"The agent on {row.host} has been silent for {silent}: see whether it still runs."
        found.append(Finding("bad", text, link))
    elif row.state == "late":
        text = f"The agent on {row.host} is late: its last snapshot is {silent} old."
        found.append(Finding("attention", text, link))
    for reason, count in row.lost.items():
        text = f"The agent on {row.host} could not count everything: {reason}, {count:,.0f} times."
        found.append(Finding("attention", text, link))
    for table, (entries, room) in row.fill.items():
        if room and entries >= FULL * room:
            text = (
                f"The table {table} on {row.host} is nearly full ({entries:,} of {room:,}): "
                f"raise network.{table}."
            )
            found.append(Finding("attention", text, link))
    return found


def _duration(milliseconds: int) -> str:
    seconds = max(0, milliseconds) // 1000
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _senders(reader: Reader, asked: Range) -> list[Sender]:
    """Returns who else sends OTLP here, the most records first."""
    value = "count()" if asked.tier == "points" else "sum(Count)"
    found = reader.read(
        f"""
SELECT service, sum(points) AS points, sum(spans) AS spans, sum(logs) AS logs FROM (
    SELECT service, sum(points) AS points, 0 AS spans, 0 AS logs FROM (
        SELECT SeriesId, {value} AS points FROM kernob_{asked.tier}
        WHERE NOT match(MetricName, '^(kernob\\\\.|process\\\\.network\\\\.io$)')
            AND Time >= fromUnixTimestamp64Milli({{start:Int64}})
            AND Time < fromUnixTimestamp64Milli({{end:Int64}}) GROUP BY SeriesId
    ) AS counted INNER JOIN (
        SELECT SeriesId, any(ServiceName) AS service FROM kernob_series
        WHERE Day >= toDate(fromUnixTimestamp64Milli({{start:Int64}}), 'UTC') - 1
            AND NOT match(MetricName, '^(kernob\\\\.|process\\\\.network\\\\.io$)')
        GROUP BY SeriesId
    ) AS series USING SeriesId GROUP BY service
    UNION ALL
    SELECT ServiceName, 0, count(), 0 FROM otel_traces
    WHERE Timestamp >= fromUnixTimestamp64Milli({{start:Int64}})
        AND Timestamp < fromUnixTimestamp64Milli({{end:Int64}}) GROUP BY ServiceName
    UNION ALL
    SELECT ServiceName, 0, 0, count() FROM otel_logs
    WHERE TimestampTime >= fromUnixTimestamp64Milli({{start:Int64}})
        AND TimestampTime < fromUnixTimestamp64Milli({{end:Int64}}) GROUP BY ServiceName
) GROUP BY service ORDER BY points + spans + logs DESC LIMIT {SENDERS}""",
        start=asked.start,
        end=asked.end,
    )
    return [
        Sender(row["service"], int(row["points"]), int(row["spans"]), int(row["logs"]))
        for row in found.to_pylist()
    ]


def _empty(reader: Reader) -> bool:
    """Returns whether nothing was ever stored, but for the server's own figures."""
    found = reader.read(
        "SELECT (SELECT count() FROM otel_traces) + (SELECT count() FROM otel_logs) "
        "+ (SELECT count() FROM kernob_series WHERE NOT startsWith(MetricName, 'kernob.server.')) "
        "AS stored"
    )
    return int(found["stored"][0].as_py()) == 0
