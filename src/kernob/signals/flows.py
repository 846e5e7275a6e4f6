"""What a source of the network's figures is: the kernel's table of flows, or polling.

It hands over a `Reading`: cumulative rows, one for each process and peer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy as np
    from numpy.typing import NDArray

ProcessId = tuple[int, int]
"""Start time in nanoseconds since boot, and thread group id."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a source has seen so far.

    Attributes:
        keys: shape (n,), structured, all different: `start` and `pid` of the process, `address`
            (16 bytes, IPv4 mapped into IPv6) and `port` (of the serving side) of the peer,
            `transport` (IP protocol number), `side` (1 client, 2 server). The unspecified
            address stands for many peers, a key of zeros for rows that found no room.
        values: shape (n,), structured: `bytes` and `operations`, each (2,) by direction and
            cumulative; `connections` open now.
        ended: processes that had ended before the rows were read.

    """

    keys: NDArray[Any]
    values: NDArray[Any]
    ended: Collection[ProcessId]


@dataclass(frozen=True, slots=True)
class Settled:
    """What a source may remove, since it can't change any more.

    Attributes:
        rows: positions in the reading of rows that have been folded into their service.
        processes: those that have ended and left no row.

    """

    rows: NDArray[np.intp]
    processes: list[ProcessId]


class FlowSource(Protocol):
    """Where readings come from: the kernel's table, or polling."""

    mode: str
    """`ebpf` or `polling`."""
    description: str
    """In one line: how the figures are known, what they miss, what would lift that."""

    def read(self) -> Reading:
        """Returns all rows as they are now."""

    def record(self, pid: int, start: int) -> Any | None:
        """Returns what the kernel kept of a process (`struct process`), None if nothing."""

    def settle(self, reading: Reading, settled: Settled) -> None:
        """Removes what can't change any more."""

    def losses(self) -> dict[str, int]:
        """Returns what could not be counted, by reason, since the start."""

    def parts(self) -> dict[str, str]:
        """Returns what can be observed, each with why it is not here; empty if it is."""

    def fill(self) -> dict[str, tuple[int, int]]:
        """Returns entries and capacity of each table."""

    def memory(self) -> dict[str, int]:
        """Returns the bytes that the kernel keeps for each table."""

    def program_seconds(self) -> dict[str, float]:
        """Returns the mean time of one run of each program in the kernel; empty if unknown."""

    def close(self) -> None:
        """Gives everything back."""


def is_ipv4(address: bytes) -> bool:
    """Tells whether a 16-byte address is a mapped IPv4 one (RFC 4291, 2.5.5.2)."""
    return address[:12] == b"\0" * 10 + b"\xff\xff"


def is_unspecified(address: bytes) -> bool:
    """Tells whether a 16-byte address is `::` or the mapped `0.0.0.0`."""
    return not any(address[12:]) and (is_ipv4(address) or not any(address))
