"""What queries return: the JSON of the API, and all that the pages show.

Times are milliseconds since the Unix epoch, rates bytes per second, totals bytes, unless the
name says otherwise. None means that nothing was measured; 0 that nothing moved.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Direction = Literal["both", "transmit", "receive"]
Grouping = Literal["service", "process", "peer", "host"]
Side = Literal["server", "client"]


@dataclass(frozen=True, slots=True)
class Range:
    """A stretch of time in equal steps.

    Attributes:
        start: of the first step, a multiple of `step`.
        end: of the last step; beyond it nothing was asked for.
        step: milliseconds.
        tier: the table it is read from: `points` (as sent), `points_1m`, `points_5m`, `points_1h`.
        interval: milliseconds between two snapshots of the agents.
    """

    start: int
    end: int
    step: int
    tier: str
    interval: int = 15_000


@dataclass(frozen=True, slots=True)
class Provenance:
    """How a figure is known.

    Attributes:
        metrics: names of the metrics it is made of.
        hooks: where in the kernel they are counted, by mode, for people to read.
        modes: how the agents behind it count: `ebpf`, `polling`.
        exact: all of them count, none polls.
        lost: what the agents could not count within the range, by reason; only what isn't zero.
        resolution: milliseconds between two points that were read.
        rows_read: points that the query looked at.
        seconds: that the query took on the server.
    """

    metrics: list[str] = field(default_factory=list)
    hooks: list[str] = field(default_factory=list)
    modes: list[str] = field(default_factory=list)
    exact: bool = True
    lost: dict[str, float] = field(default_factory=dict)
    resolution: int = 0
    rows_read: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Line:
    """One line, or one layer of a stack.

    Attributes:
        name: of the service, process, peer or host; `others` for the rest, summed.
        transmit: bytes per second in each step; None where nothing was measured.
        receive: the same for the other direction.
        key: what the filter of this name takes (`TrafficRow.key`); empty for `others`.
    """

    name: str
    transmit: list[float | None]
    receive: list[float | None]
    key: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at one time: a service's process that started, an agent that did.

    Attributes:
        time: when.
        name: whose.
        what: in words.
    """

    time: int
    name: str
    what: str


@dataclass(frozen=True, slots=True)
class TrafficRow:
    """A row of the table under the chart.

    Attributes:
        name: of the service, process, peer or host: by what was grouped.
        service: of a process; else empty, or the name itself.
        hosts: names of the hosts where it was seen.
        pid: of a process; 0 otherwise.
        transmit_rate, receive_rate: over the latest step that is complete.
        transmit, receive: within the range.
        operations: calls that moved data within the range; None for processes.
        peers: different peers within the range.
        connections: TCP connections open now; None for processes.
        since: start of the latest stretch without a pause, None if it is quiet now.
        last: when it last moved a byte within the range.
        key: what the page's filter takes: the name, or `host:pid` of a process.
    """

    name: str
    service: str
    hosts: list[str]
    pid: int
    transmit_rate: float
    receive_rate: float
    transmit: int
    receive: int
    operations: int | None
    peers: int
    connections: int | None
    since: int | None
    last: int | None
    key: str = ""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Who uses the network: a chart and the table under it.

    Attributes:
        range: what was asked for, in steps.
        by: what a row is.
        times: start of each step, n of them; all lists of `lines` are as long.
        lines: the largest first, then `others` if there are more.
        rows: all of them, the largest total first, at most the limit.
        rows_left_off: how many more there would be.
        transmit, receive: of all rows together within the range.
        marks: what happened meanwhile.
        provenance: how this is known.
    """

    range: Range
    by: Grouping
    times: list[int]
    lines: list[Line]
    rows: list[TrafficRow]
    rows_left_off: int
    transmit: int
    receive: int
    marks: list[Mark]
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class AgentPart:
    """Something an agent can observe.

    Attributes:
        name: such as `network` or `datagram peers`.
        on: whether it does.
        reason: why not, and what to do.
    """

    name: str
    on: bool
    reason: str


@dataclass(frozen=True, slots=True)
class AgentRow:
    """An agent, as of its latest snapshot.

    Attributes:
        host: where it runs.
        state: `ok`, `late` (three of its intervals without a snapshot), or `gone` (fifteen
            minutes).
        version: of Kernob.
        mode: `ebpf` or `polling`.
        started: when.
        last: time of its latest snapshot.
        interval: milliseconds between two of them.
        delay: milliseconds from a snapshot of late to its place in the store; None if not known.
        cpu: share of one core within the range, 0.01 is one per cent.
        memory: bytes resident now.
        map_memory: bytes of its tables in the kernel.
        series: that it sends.
        lost: within the range, by reason, those that aren't zero.
        fill: of each of its tables, entries and room.
        parts: what it observes, and what is off.
        cpu_line, memory_line: over the range's steps.
    """

    host: str
    state: Literal["ok", "late", "gone"]
    version: str
    mode: str
    started: int
    last: int
    interval: int
    delay: int | None
    cpu: float | None
    memory: int | None
    map_memory: int | None
    series: int
    lost: dict[str, float]
    fill: dict[str, tuple[int, int]]
    parts: list[AgentPart]
    cpu_line: list[float | None]
    memory_line: list[float | None]


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """What the server refused for one reason: whole requests, or single records of requests.

    Attributes:
        signal: `metrics`, `traces`, `logs` or `profiles`.
        reason: in words.
        requests: how many; None if single records were refused.
        records: how many; None if whole requests were refused: what is in them is not known.
        last: when it last did, at the latest; None if that is not known.
    """

    signal: str
    reason: str
    requests: int | None
    records: int | None
    last: int | None


@dataclass(frozen=True, slots=True)
class Refusals:
    """What the server refused.

    Attributes:
        since: when the server started, if it counts from there, since its store lacks the latest;
            None if it counts within the range that was asked for.
        rows: whole requests, then single records; none that are zero.
    """

    since: int | None
    rows: list[RefusedRow]


@dataclass(frozen=True, slots=True)
class Agents:
    """All agents that were heard of within the range.

    Attributes:
        range: what was asked for.
        times: start of each step.
        rows: those in trouble first.
        refused: what the server itself refused, or dropped early.
        provenance: how this is known.
    """

    range: Range
    times: list[int]
    rows: list[AgentRow]
    refused: Refusals
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class HostRow:
    """A host on the overview.

    Attributes:
        host: its name.
        state: of its agent; `none` if none was heard of, so others send what it moves.
        services: seen moving bytes within the range.
        transmit_rate, receive_rate: over the latest complete step.
        line: both directions together over the range's steps.
    """

    host: str
    state: Literal["ok", "late", "gone", "none"]
    services: int
    transmit_rate: float
    receive_rate: float
    line: list[float | None]


@dataclass(frozen=True, slots=True)
class Health:
    """How requests of a service went lately, against the hour before.

    Attributes:
        service: its name.
        side: as server, or as client.
        state: `bad` or `attention` if more fail or they take longer; else `ok`.
        why: in words; empty if it is ok.
        rate: requests per second, lately.
        requests, errors: lately.
        error_share, error_share_before: of the requests, lately and in the hour before; None
            without requests.
        p95, p95_before: seconds; None without requests.
    """

    service: str
    side: Side
    state: Literal["ok", "attention", "bad"]
    why: str
    rate: float
    requests: int
    errors: int
    error_share: float | None
    error_share_before: float | None
    p95: float | None
    p95_before: float | None


@dataclass(frozen=True, slots=True)
class Overview:
    """Is anything wrong now, and who is busy?

    Attributes:
        range: what was asked for.
        times: start of each step.
        findings: what is wrong, worst first, each in words; empty if all is quiet.
        hosts: all of them.
        services: how many moved bytes within the range, on all hosts together.
        health: services with requests, those that fail or slow down first.
        busy: the busiest services now.
        lines: of the busiest, over the range's steps.
        marks: what happened meanwhile.
        senders: other programs that send OTLP here: service name and records within the range.
        empty: nothing was ever stored.
        provenance: how this is known.
    """

    range: Range
    times: list[int]
    findings: list[Finding]
    hosts: list[HostRow]
    services: int
    health: list[Health]
    busy: list[TrafficRow]
    lines: list[Line]
    marks: list[Mark]
    senders: list[Sender]
    empty: bool
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong, in words.

    Attributes:
        severity: `bad` or `attention`.
        text: one sentence: what, where, what to do.
        link: the page that shows it, relative, such as `/agents?host=a`.
    """

    severity: Literal["bad", "attention"]
    text: str
    link: str


@dataclass(frozen=True, slots=True)
class Sender:
    """A service that sends OTLP of its own.

    Attributes:
        service: its `service.name`.
        points, spans, logs: stored within the range.
    """

    service: str
    points: int
    spans: int
    logs: int


@dataclass(frozen=True, slots=True)
class Found:
    """One thing that was searched for.

    Attributes:
        kind: what it is.
        name: as it is shown.
        detail: where it runs, or whose it is.
        link: its page, relative.
    """

    kind: Literal["service", "process", "host", "peer", "operation"]
    name: str
    detail: str
    link: str


@dataclass(frozen=True, slots=True)
class Search:
    """What a text was found in, best first.

    Attributes:
        text: what was looked for.
        found: at most twenty.
    """

    text: str
    found: list[Found]


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of the server about itself.

    Attributes:
        metric: its name, `kernob.server.*`.
        unit: in UCUM.
        total: it only grows.
        value: as of now.
        attributes: what it is of.
    """

    metric: str
    unit: str
    total: bool
    value: float
    attributes: dict[str, str]


@dataclass(frozen=True, slots=True)
class Server:
    """The server about itself.

    Attributes:
        version: of Kernob.
        started: when.
        figures: what it took, refused and stored since, and what that cost.
    """

    version: str
    started: int
    figures: list[Figure]


@dataclass(frozen=True, slots=True)
class Question:
    """SQL to be answered.

    Attributes:
        query: one SELECT in ClickHouse's SQL.
        limit: rows at most.
    """

    query: str
    limit: int = 1000


@dataclass(frozen=True, slots=True)
class Table:
    """The answer to SQL.

    Attributes:
        columns: their names.
        types: ClickHouse's, of each column.
        rows: of values in the order of the columns; whole numbers of 64 bits and times are texts.
        truncated: there were more rows than were asked for.
        seconds: that it took.
    """

    columns: list[str]
    types: list[str]
    rows: list[list[Any]]
    truncated: bool
    seconds: float
