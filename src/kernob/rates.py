"""Rates out of traffic tables, and numbers with their units.

Two tables some time apart say what moved in between; added up by process, service or peer, that
is what `kernob top` shows. Bytes stay whole numbers until they are shown, so every view adds up
to the same sum.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kernob.traffic import Row, Table

View = Literal["process", "service", "peer"]
VIEWS: Final[tuple[View, ...]] = ("process", "service", "peer")

LINGER: Final = 5.0
"""Seconds for which a process that has gone is still shown."""
MOST_GONE: Final = 500
"""How many rows of gone processes are kept for that."""

Key = tuple[str | int, ...]
"""What a line is told apart by; the same in every table."""


# -- numbers -------------------------------------------------------------------------------------


def scaled(value: float) -> tuple[str, str]:
    """Returns `value` in three significant digits, and the SI prefix ("", k, M, G, T, P, E).

    Below 1,000 it is a whole number; what isn't zero never reads "0", but "<1".
    """
    if 0 < value <= 0.5:  # noqa: PLR2004
        return "<1", ""
    if value < 999.5:  # noqa: PLR2004
        return f"{value:.0f}", ""
    for prefix in "kMGTPE":
        value /= 1000
        # At the border of two digit counts the rounded number decides: 9.995 is "10.0".
        for decimals, limit in ((2, 9.995), (1, 99.95), (0, 999.5)):
            if value < limit:
                return f"{value:.{decimals}f}", prefix
    return f"{value:.0f}", "E"


def bytes_text(value: float) -> str:
    """Returns a number of bytes as people read it: `1.24 MB` (a million bytes, not 2^20)."""
    number, prefix = scaled(value)
    return f"{number} {prefix}B"


def rate_text(value: float) -> str:
    """Returns bytes per second as people read them: `1.24 MB/s`."""
    return f"{bytes_text(value)}/s"


def count_text(value: float) -> str:
    """Returns a count, or a count per second: `412`, `12.3k`; below 10 with a decimal if any."""
    if 0 < value < 0.05:  # noqa: PLR2004
        return "<0.1"
    if value < 9.95 and value != int(value):  # noqa: PLR2004
        return f"{value:.1f}"
    return "".join(scaled(value))


def duration_text(seconds: float) -> str:
    """Returns a duration in three significant digits: `412 µs`, `1.24 ms`, `2.05 s`."""
    for factor, unit in ((1e6, "µs"), (1e3, "ms")):
        if seconds * factor < 999.5:  # noqa: PLR2004
            return f"{_digits(seconds * factor)} {unit}"
    return f"{_digits(seconds)} s"


def _digits(value: float) -> str:
    decimals = next((d for d, limit in ((2, 9.995), (1, 99.95)) if value < limit), 0)
    return f"{value:.{decimals}f}"


# -- what moved between two tables ---------------------------------------------------------------


class Moved(NamedTuple):
    """Bytes and operations that moved between two tables."""

    transmit: int
    receive: int
    operations: int


NOTHING: Final = Moved(0, 0, 0)


@dataclass(frozen=True, slots=True)
class Flow:
    """A row of a table, and what it has moved since the table before.

    Attributes:
        gone: the row isn't in the table any more; its totals are the last that were known.

    """

    row: Row
    moved: Moved
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """All that two tables say.

    Attributes:
        table: the newer one.
        seconds: between the two, more than zero.
        flows: one for each row, and the rows that have gone lately.
        by: the only view that the rows make; None if they make all of them.

    """

    table: Table
    seconds: float
    flows: list[Flow]
    by: View | None = None


def _identity(row: Row) -> Key:
    return (row.start, row.pid, *_conversation(row))


def _conversation(row: Row) -> Key:
    return (row.service, row.transport, row.type, row.peer, row.port, row.side)


def _merged(rows: Iterable[Row]) -> dict[Key, Row]:
    """Returns the rows by identity; rows that look alike (a name of many addresses) are one."""
    found: dict[Key, Row] = {}
    for row in rows:
        key = _identity(row)
        same = found.get(key)
        if same is not None:
            row = msgspec.structs.replace(  # noqa: PLW2901
                row,
                transmit=row.transmit + same.transmit,
                receive=row.receive + same.receive,
                operations=row.operations + same.operations,
                connections=row.connections + same.connections,
                ended=row.ended and same.ended,
            )
        found[key] = row
    return found


def measure(before: Table, after: Table) -> tuple[list[Flow], list[Row]]:
    """Returns what each row of `after` has moved since `before`, and the rows that have gone.

    A row that is new has moved all it has. A counter that went back (the agent was restarted)
    has moved nothing, rather than a negative number.

    A row without a process (pid 0) holds what ended processes of a service moved. What it gains
    by taking over a process's row has been counted before, so only the rest has moved: the last
    bytes of that process, and those of processes that lived between the two tables.
    """
    old, new = _merged(before.rows), _merged(after.rows)
    gone = [row for key, row in old.items() if key not in new]
    taken_over: dict[Key, Moved] = {}
    for row in gone:
        transmit, receive, operations = taken_over.get(_conversation(row), NOTHING)
        taken_over[_conversation(row)] = Moved(
            transmit + row.transmit, receive + row.receive, operations + row.operations
        )
    flows = []
    for key, row in new.items():
        was = old.get(key)
        base = NOTHING if was is None else Moved(was.transmit, was.receive, was.operations)
        more = NOTHING if row.pid else taken_over.get(_conversation(row), NOTHING)
        moved = Moved(
            max(0, row.transmit - base.transmit - more.transmit),
            max(0, row.receive - base.receive - more.receive),
            max(0, row.operations - base.operations - more.operations),
        )
        flows.append(Flow(row, moved))
    return flows, gone


def seconds_between(before: int, after: int, waited: float) -> float:
    """Returns the seconds between two tables of these times, read so many seconds apart."""
    seconds = (after - before) / 1e9
    # The wall clock can be set back: a rate over almost no time would be absurd.
    return waited if seconds < waited / 4 else seconds


class Meter:
    """Makes samples out of the tables as they come."""

    def __init__(self) -> None:
        self._last: Table | None = None
        self._since = 0.0
        self._gone: list[tuple[float, Row]] = []

    def add(self, table: Table, now: float) -> Sample | None:
        """Takes a table in.

        Args:
            table: the table.
            now: seconds on a clock that never jumps, when it was read.

        Returns:
            None if it takes another table to say something: it is the first, or the same as before.

        """
        before, since = self._last, self._since
        if before is not None and table.time == before.time:
            return None
        self._last, self._since = table, now
        if before is None:
            return None
        seconds = seconds_between(before.time, table.time, now - since)
        if seconds <= 0:
            return None
        flows, gone = measure(before, table)
        present = {(flow.row.start, flow.row.pid) for flow in flows}
        self._gone = [
            (at, row)
            for at, row in [*self._gone, *((now, row) for row in gone)]
            if now - at < LINGER and (row.start, row.pid) not in present
        ][-MOST_GONE:]
        flows += [Flow(row, NOTHING, gone=True) for _, row in self._gone]
        return Sample(table, seconds, flows)


def metered(ask: Callable[[], Table]) -> Callable[[View], Sample | None]:
    """Returns a source of samples out of one of tables, each of which makes all views."""
    meter = Meter()
    return lambda _view: meter.add(ask(), time.monotonic())


# -- lines of a view -----------------------------------------------------------------------------


@dataclass(slots=True)
class Line:
    """One line of a view: a process, a service or a peer, with all its flows added up.

    Attributes:
        moved_transmit: bytes, between the two tables; divided by `seconds` that is the rate.
        transmit: bytes since the agent or the process started.
        count: of lines, in the line that sums up others.

    """

    key: Key
    seconds: float
    flows: list[Flow] = field(default_factory=list)
    moved_transmit: int = 0
    moved_receive: int = 0
    moved_operations: int = 0
    transmit: int = 0
    receive: int = 0
    operations: int = 0
    connections: int = 0
    count: int = 1

    def add(self, flow: Flow) -> None:
        """Adds a flow."""
        row, moved = flow.row, flow.moved
        self.flows.append(flow)
        self.moved_transmit += moved.transmit
        self.moved_receive += moved.receive
        self.moved_operations += moved.operations
        self.transmit += row.transmit
        self.receive += row.receive
        self.operations += row.operations
        self.connections += 0 if flow.gone else row.connections

    @property
    def transmit_rate(self) -> float:
        """Bytes per second."""
        return self.moved_transmit / self.seconds

    @property
    def receive_rate(self) -> float:
        """Bytes per second."""
        return self.moved_receive / self.seconds

    @property
    def operations_rate(self) -> float:
        """Calls that moved data, per second."""
        return self.moved_operations / self.seconds

    @property
    def row(self) -> Row:
        """The first of its rows: what its key says is the same in all."""
        return self.flows[0].row

    @property
    def ended(self) -> bool:
        """Tells whether all its processes have gone."""
        return bool(self.flows) and all(flow.gone or flow.row.ended for flow in self.flows)

    def processes(self) -> int:
        """Returns how many processes it has."""
        return len({(flow.row.start, flow.row.pid) for flow in self.flows if flow.row.pid})

    def names(self, of: Callable[[Row], str]) -> list[str]:
        """Returns the different names in its rows, those that move most first."""
        weight: dict[str, tuple[int, int]] = {}
        for flow in self.flows:
            now, ever = weight.get(of(flow.row), (0, 0))
            weight[of(flow.row)] = (
                now + flow.moved.transmit + flow.moved.receive,
                ever + flow.row.transmit + flow.row.receive,
            )
        return sorted(weight, key=lambda name: (*(-w for w in weight[name]), name))


def key_of(row: Row, view: View) -> Key:
    """Returns which line of a view a row belongs to."""
    if view == "process":
        # What ended processes moved is one line for each service.
        if not row.pid:
            return (0, 0, row.service)
        return (row.start, row.pid, row.host) if row.host else (row.start, row.pid)
    if view == "service":
        return (row.service,)
    return (row.peer, row.port, row.transport, row.side)


def lines(sample: Sample, view: View, flows: Iterable[Flow] | None = None) -> list[Line]:
    """Returns the lines of a view over all flows of a sample, or over some of them.

    Flows that have gone make lines of their own and are never added to the others: a service
    keeps what its ended processes moved by itself.
    """
    found: dict[Key, Line] = {}
    gone: dict[Key, Line] = {}
    for flow in sample.flows if flows is None else flows:
        key = key_of(flow.row, view)
        group = gone if flow.gone else found
        line = group.get(key)
        if line is None:
            line = group[key] = Line(key, sample.seconds)
        line.add(flow)
    return [*found.values(), *(line for key, line in gone.items() if key not in found)]


def total(sample: Sample) -> Line:
    """Returns everything of a sample as one line."""
    line = Line((), sample.seconds)
    for flow in sample.flows:
        if not flow.gone:
            line.add(flow)
    return line


def summed(some: Iterable[Line], seconds: float) -> Line:
    """Returns lines added up to one without flows, which says how many they are."""
    line = Line((), seconds, count=0)
    for other in some:
        line.count += other.count
        line.moved_transmit += other.moved_transmit
        line.moved_receive += other.moved_receive
        line.moved_operations += other.moved_operations
        line.transmit += other.transmit
        line.receive += other.receive
        line.operations += other.operations
        line.connections += other.connections
    return line


def matching(flows: Iterable[Flow], text: str) -> list[Flow]:
    """Returns the flows whose process, service, peer, user, pid or port has all words of `text`.

    Case doesn't matter. `:443` is exactly that port.
    """
    words = text.lower().split()
    ports = {int(word[1:]) for word in words if word[0] == ":" and word[1:].isdecimal()}
    words = [word for word in words if not (word[0] == ":" and word[1:].isdecimal())]
    return [
        flow
        for flow in flows
        if all(port == flow.row.port for port in ports)
        and (not words or all(word in _haystack(flow.row) for word in words))
    ]


def _haystack(row: Row) -> str:
    return (
        f"{row.executable} {row.command} {row.service} {row.unit} {row.container} {row.peer} "
        f"{row.user} {row.pid} {row.port} {row.transport}"
    ).lower()
