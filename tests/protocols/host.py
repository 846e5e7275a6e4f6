"""The kernel's parsers, compiled for this machine: what they make of a stream.

`units` shows them one direction of a fresh connection, `Connection` both of one. A stream comes
in calls: `cuts` are the places where one ends and the next begins. Everything is done twice, with
different bytes behind those that mean something: a parser that looks at them fails here.
"""

from __future__ import annotations

import ctypes
import enum
import functools
import itertools
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

HERE = Path(__file__).parent
WINDOW = 1024
TEXT = 1024
MOST_UNITS = 4096  # of one call
FILLINGS = (0x00, 0xFF, ord("\n"), ord("1"))
FLAGS = (
    *("-std=gnu11", "-DKERNOB_HOST", "-Wall", "-Wextra", "-Werror"),
    *("-Wno-unused-function", "-Wno-unused-parameter", "-Wno-unknown-pragmas"),
)


class Direction(enum.IntEnum):
    """Who sends."""

    SERVER = 0
    CLIENT = 1


class Event(enum.IntFlag):
    """`enum unit_event` of include/unit.h."""

    REQUEST = 1 << 0
    ONE_WAY = 1 << 1
    MARKER = 1 << 2
    REMEMBER = 1 << 3
    RECALL = 1 << 4
    BEFORE = 1 << 6
    APART = 1 << 8
    ANSWER = 1 << 9
    PREPARED = 1 << 10
    UNTIL = 1 << 11
    TO_CLOSE = 1 << 12
    NAMESPACE = 1 << 16
    ENDS = 1 << 17
    BY_ID = 1 << 18


NO_EVENT = Event(0)


class Unseen(enum.IntEnum):
    """`enum unseen` of include/unit.h, as far as parsers give it as a reason."""

    ENCRYPTED = 8
    COMPRESSED = 9
    OTHER = 10


@dataclass(frozen=True)
class Unit:
    """What a parser has said of one unit; `text` only where it means something."""

    length: int
    events: Event = NO_EVENT
    text: bytes = b""
    operation: int = 0
    status: int = 0
    body: int = 0
    statement: int = 0
    local: int = 0
    reason: int = 0
    again: int = 0


class AlienError(Exception):
    """The parser says that this is not its protocol; `units` came before."""

    def __init__(self, units: list[Unit]) -> None:
        super().__init__(f"not this protocol after {units[-5:]}")
        self.units = units


class _Asked(ctypes.Structure):
    _fields_ = (("local", ctypes.c_uint32), ("marker", ctypes.c_uint32))


class _Head(ctypes.Structure):
    """`struct connection` up to what is only the C side's."""

    _fields_ = (
        ("protocol", ctypes.c_uint32),
        ("asked_count", ctypes.c_uint32),
        ("asked_at", ctypes.c_uint32),
        ("always", ctypes.c_uint32),
        ("runs", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("shared", ctypes.c_uint64 * 2),
        ("asked", ctypes.POINTER(_Asked)),
    )


class _Place(ctypes.Structure):
    _fields_ = (
        ("window", ctypes.c_void_p),
        ("text", ctypes.c_void_p),
        ("filling", ctypes.c_uint8),
    )


class _Seen(ctypes.Structure):
    _fields_ = (
        ("length", ctypes.c_uint64),
        ("body", ctypes.c_uint64),
        ("operation", ctypes.c_uint64),
        ("statement", ctypes.c_uint64),
        ("status", ctypes.c_uint32),
        ("reason", ctypes.c_uint32),
        ("events", ctypes.c_uint32),
        ("local", ctypes.c_uint32),
        ("again", ctypes.c_uint32),
        ("padding", ctypes.c_uint32),
        ("text_length", ctypes.c_uint32),
        ("text", ctypes.c_uint8 * TEXT),
    )


class _Trouble(enum.IntEnum):
    NONE = 0
    LOST = 1
    STUCK = 2
    STILL = 3
    BEYOND = 4
    ENDED = 5
    FULL = 6


def compile_host(source: str, target: Path, *compiler: str) -> None:
    """Compiles a C file of this directory with the flags that all of them have."""
    subprocess.run([*compiler, *FLAGS, "-o", target, HERE / source], check=True)


@functools.cache
def _library() -> ctypes.CDLL:
    directory = Path(tempfile.mkdtemp(prefix="kernob-host-"))
    try:
        target = directory / "host.so"
        compile_host("host.c", target, sys.executable, "-m", "ziglang", "cc", "-O2", "-shared")
        library = ctypes.CDLL(str(target))
    finally:
        shutil.rmtree(directory)
    library.protocol_name.restype = ctypes.c_char_p
    library.size_of_connection.restype = ctypes.c_uint64
    library.feed.restype = ctypes.c_uint32
    library.feed.argtypes = (
        ctypes.c_void_p,
        ctypes.c_bool,
        ctypes.POINTER(_Place),
        ctypes.c_char_p,
        ctypes.c_uint64,
        ctypes.POINTER(_Seen),
        ctypes.c_uint32,
    )
    library.trouble.restype = ctypes.c_uint32
    library.trouble.argtypes = (ctypes.c_void_p, ctypes.c_bool)
    library.detects.restype = ctypes.c_bool
    library.detects.argtypes = (
        ctypes.c_uint32,
        ctypes.c_bool,
        ctypes.POINTER(_Place),
        ctypes.c_char_p,
        ctypes.c_uint32,
    )
    return library


@functools.cache
def protocols() -> dict[str, int]:
    """Returns the number of each protocol that there is, in the order of detection."""
    names = ((_library().protocol_name(number), number) for number in range(32))
    return {name.decode(): number for name, number in names if name}


_SHOWN = ctypes.create_string_buffer(WINDOW + 64 + 1)
_TEXT = (ctypes.c_uint64 * 256)()  # a struct text is smaller
_PLACES = tuple(
    _Place(ctypes.addressof(_SHOWN), ctypes.addressof(_TEXT), filling) for filling in FILLINGS
)
_FOUND = (_Seen * MOST_UNITS)()


def _detects(protocol: str, direction: Direction, start: bytes) -> bool:
    seen = {
        _library().detects(
            protocols()[protocol], direction, ctypes.byref(place), start[:WINDOW], len(start)
        )
        for place in _PLACES
    }
    assert len(seen) == 1, f"{protocol}: detection looks behind the {len(start)} bytes {start!r}"
    return bool(seen.pop())


def asks(protocol: str, start: bytes) -> bool:
    """Returns whether a stream that begins so looks like a client's."""
    return _detects(protocol, Direction.CLIENT, start)


def answers(protocol: str, start: bytes) -> bool:
    """Returns whether a stream that begins so looks like a server's."""
    return _detects(protocol, Direction.SERVER, start)


class _Side:
    """A connection as it is with one filling."""

    def __init__(
        self, protocol: str, asked: Sequence[int | None], *, waiting: bool, runs: int
    ) -> None:
        self._bytes = ctypes.create_string_buffer(_library().size_of_connection())
        self._asked = (_Asked * max(len(asked), 1))(
            *(_Asked(local or 0, local is None) for local in asked)
        )
        head = _Head.from_buffer(self._bytes)
        head.protocol = protocols()[protocol]
        head.asked_count = len(asked)
        head.always = waiting
        head.runs = runs
        head.asked = ctypes.cast(self._asked, ctypes.POINTER(_Asked))

    def feed(self, direction: Direction, call: bytes, place: _Place) -> tuple[list[Unit], _Trouble]:
        count = _library().feed(
            self._bytes, direction, ctypes.byref(place), call, len(call), _FOUND, MOST_UNITS
        )
        units = [
            Unit(
                length=seen.length,
                events=Event(seen.events),
                text=bytes(seen.text[: seen.text_length]),
                operation=seen.operation,
                status=seen.status,
                body=seen.body,
                statement=seen.statement,
                local=seen.local,
                reason=seen.reason,
                again=seen.again,
            )
            for seen in _FOUND[:count]
        ]
        return units, _Trouble(_library().trouble(self._bytes, direction))


class Connection:
    """Both directions of one connection, as the parsers of one protocol see them.

    Args:
        protocol: Its name.
        asked: What each waiting request has left in `local`, in order; None is a MARKER. Each
            ANSWER takes one, UNTIL all up to a marker.
        waiting: Whether more requests wait (with 0 in `local`) when `asked` is at its end.
        runs: How many equal units may be told as one; 0: each is one.
    """

    def __init__(
        self,
        protocol: str,
        asked: Sequence[int | None] = (),
        *,
        waiting: bool = True,
        runs: int = 0,
    ) -> None:
        self._sides = [_Side(protocol, asked, waiting=waiting, runs=runs) for _ in FILLINGS]

    def call(self, direction: Direction, call: bytes) -> list[Unit]:
        """Returns the units that this call completes (after ENDS: none any more).

        Raises:
            AlienError: The parser says ALIEN.
            AssertionError: It does what the contract forbids.
        """
        results = [
            side.feed(direction, call, place)
            for side, place in zip(self._sides, _PLACES, strict=True)
        ]
        units, trouble = results[0]
        for filling, other in zip(FILLINGS[1:], results[1:], strict=True):
            assert other == results[0], f"what lies behind the bytes ({filling:#x}) changes units"
        if trouble == _Trouble.LOST:
            raise AlienError(units)
        assert trouble in (_Trouble.NONE, _Trouble.ENDED), f"{trouble.name} after {units[-5:]}"
        return units

    def client(self, *calls: bytes) -> list[Unit]:
        """Returns the units of the client's next calls."""
        return [unit for call in calls for unit in self.call(Direction.CLIENT, call)]

    def server(self, *calls: bytes) -> list[Unit]:
        """Returns the units of the server's next calls."""
        return [unit for call in calls for unit in self.call(Direction.SERVER, call)]


def split(stream: bytes, cuts: Iterable[int]) -> Iterator[bytes]:
    """Yields the calls of a stream that is cut at these places."""
    for start, end in itertools.pairwise((0, *cuts, len(stream))):
        if start < end:
            yield stream[start:end]


def units(
    protocol: str,
    direction: Direction,
    stream: bytes,
    cuts: Iterable[int] = (),
    asked: Sequence[int | None] = (),
    *,
    waiting: bool = True,
) -> list[Unit]:
    """Returns the units of one direction of a fresh connection; see `Connection`."""
    connection = Connection(protocol, asked, waiting=waiting)
    return [unit for call in split(stream, cuts) for unit in connection.call(direction, call)]


def messages(found: Iterable[Unit]) -> list[Unit]:
    """Returns what the engine makes of units, however finely a parser has cut them.

    A unit without events belongs to the request before it, or to the answer that it comes before;
    units that are apart and follow each other are one.
    """
    merged: list[Unit] = []
    answering = Unit(0)
    for unit in found:
        if unit.events == NO_EVENT and merged and merged[-1].events & Event.REQUEST:
            merged[-1] = _longer(merged[-1], unit)
        elif unit.events == NO_EVENT:
            answering = _longer(answering, unit)
        elif unit.events == Event.APART and merged and merged[-1].events == Event.APART:
            merged[-1] = _longer(merged[-1], unit)
        elif unit.events & (Event.ANSWER | Event.TO_CLOSE):
            merged.append(_longer(unit, answering))
            answering = Unit(0)
        else:
            merged.append(unit)
    return [*merged, answering] if answering.length else merged


def _longer(unit: Unit, by: Unit) -> Unit:
    return replace(unit, length=unit.length + by.length, body=unit.body + by.body)


def however_cut(
    protocol: str,
    direction: Direction,
    stream: bytes,
    asked: Sequence[int | None] = (),
    *,
    waiting: bool = True,
) -> list[Unit]:
    """Returns the messages of a stream, the same for each place of a cut and for calls of a byte.

    Raises:
        AssertionError: A cut changes them.
    """
    whole = messages(units(protocol, direction, stream, (), asked, waiting=waiting))
    for cuts in (*((cut,) for cut in range(1, len(stream))), range(1, len(stream))):
        found = messages(units(protocol, direction, stream, cuts, asked, waiting=waiting))
        assert found == whole, f"cut at {cuts}"
    return whole
