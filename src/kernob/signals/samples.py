"""Single requests that the kernel picked: errors, the slowest of each series, one a second.

They show what figures can't; no metric depends on them. Each stands for `weight` requests of its
series, itself included, so weights add up to all requests up to the latest sample of a series.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from kernob.identity.addresses import plain
from kernob.signals.flows import is_unspecified
from kernob.telemetry.model import Attributes, AttributeValue, attributes
from kernob.telemetry.spans import Span, name_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from kernob.signals.operations import Described, Operations
    from kernob.signals.requests import KernelRequests

REASONS: Final = ("", "failed", "slowest", "fair")
"""By the number in enum sample_reason (bpf/include/sample.h)."""
WINDOW_SECONDS: Final = 10.0
"""How long a request stays the slowest of its series."""
KEPT: Final = 1000
"""Latest samples that are kept to be asked for."""
DESCRIBED: Final = 4096
"""Keys whose meaning is remembered."""
_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class Sample:
    """One request.

    Attributes:
        number: counts samples, from 1; higher ones came later.
        about: what it was; shared by all samples of its series.
        address: of the peer, 16 bytes; zeros if it is one of many.
        start: of its first byte, nanoseconds since the Unix epoch.
        first: of the first byte of its answer; `end` if the answer came in one piece.
        end: of the last byte of its answer.
        request_size: bytes on the wire.
        response_size: bytes on the wire.
        weight: requests of its series that it stands for.
        reason: `failed`, `slowest` or `fair`.
    """

    number: int
    about: Described
    address: bytes
    start: int
    first: int
    end: int
    request_size: int
    response_size: int
    weight: int
    reason: str

    def own(self) -> Attributes:
        """Returns the attributes of its span that its series does not have."""
        return attributes(self._own())

    def _own(self) -> dict[str, AttributeValue]:
        http = dict(self.about.attributes).get("network.protocol.name") == "http"
        size = "http" if http else "kernob"
        found: dict[str, AttributeValue] = {
            "kernob.sample.weight": self.weight,
            "kernob.sample.reason": self.reason,
            "kernob.request.time_to_first_byte": (self.first - self.start) / 1e9,
            f"{size}.request.size": self.request_size,
            f"{size}.response.size": self.response_size,
        }
        if not is_unspecified(self.address):
            found["network.peer.address"] = str(plain(self.address))
        return found

    def span(self, agent: Attributes) -> Span:
        """Returns it as a span; `agent` is the agent's resource."""
        series = dict(self.about.attributes)
        return Span(
            name=name_of(series),
            kind="server" if self.about.side == "server" else "client",
            start=self.start,
            end=self.end,
            resource=_resource(agent, str(series["service.name"])),
            series=tuple(item for item in self.about.attributes if item[0] != "service.name"),
            own=self.own(),
            failed="error.type" in series,
        )


@lru_cache(maxsize=1024)
def _resource(agent: Attributes, service: str) -> Attributes:
    """Returns the resource of a service: the agent's host and what else it was told to say."""
    told = {name: value for name, value in agent if not name.startswith("service.")}
    return attributes({**told, "service.name": service})


class Samples:
    """Makes samples of the kernel's records.

    Args:
        source: of the records; a new window is opened there every 10 s.
        operations: says what they are about.
        clock: seconds that never jump.
    """

    def __init__(
        self,
        source: KernelRequests,
        operations: Operations,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._operations = operations
        self._clock = clock
        self._next_window = clock() + WINDOW_SECONDS
        self._described: dict[bytes, Described] = {}
        self._number = 0
        self._records: NDArray[Any] | None = None
        self.latest: deque[Sample] = deque(maxlen=KEPT)
        """Oldest first."""

    def read(self) -> None:
        """Takes the records out of the ring: before the texts, which the kernel sends ahead.

        Raises:
            KernelError: the ring can't be read.
        """
        self._records = self._source.samples()
        if self._clock() >= self._next_window:
            self._next_window = self._clock() + WINDOW_SECONDS
            self._source.open_window()

    def take(self) -> list[Sample]:
        """Returns what the last `read` found, now that its texts are known; once."""
        records, self._records = self._records, None
        if records is None or not len(records):
            return []
        offset = clock_offset()
        found = [
            Sample(
                number=number,
                about=self._about(key),
                address=key["address"].tobytes(),
                start=start + offset,
                first=first + offset,
                end=last + offset,
                request_size=request_size,
                response_size=response_size,
                weight=weight,
                reason=REASONS[reason],
            )
            for number, key, start, first, last, request_size, response_size, weight, reason in zip(
                range(self._number + 1, self._number + 1 + len(records)),
                records["key"],
                *(
                    records[name].tolist()
                    for name in (
                        *("start", "first", "last"),
                        *("request_bytes", "response_bytes", "weight", "reason"),
                    )
                ),
                strict=True,
            )
        ]
        self._number += len(found)
        self.latest.extend(found)
        return found

    def _about(self, key: Any) -> Described:
        name = key.tobytes()
        known = self._described.get(name)
        if known is None:
            known = self._operations.describe(key)
            if self._operations.knows(key):
                if len(self._described) >= DESCRIBED:
                    self._described.clear()
                self._described[name] = known
        return known

    def rename(self) -> None:
        """Takes in that a process has another name now, or an address."""
        self._described.clear()


def clock_offset() -> int:
    """Returns what the Unix time is ahead of the monotonic clock now, in nanoseconds.

    Of a few tries the one in which least time passed: exact to a microsecond. It changes when
    the clock is set and while the machine sleeps, so it is asked for anew each time.
    """
    tries = []
    for _ in range(_TRIES):
        before = time.monotonic_ns()
        wall = time.time_ns()
        after = time.monotonic_ns()
        tries.append((after - before, wall - (before + after) // 2))
    return min(tries)[1]
