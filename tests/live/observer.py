"""Kernob's table of flows, as the live tests want to see it."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

import numpy as np
from workshop import Moved, Who, address_text

from kernob.signals.accounts import SIDES, TRANSPORTS
from kernob.signals.network import KernelFlows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from workshop import Workshop

    from kernob.config import Network

NOTHING = Moved(0, 0, 0, 0)
SETTLE_SECONDS = 3
OWNER_READINGS = 30


class Observer:
    """Kernob's rows of the processes of one workshop, and of no other on this machine."""

    def __init__(self, source: KernelFlows, workshop: Workshop) -> None:
        self.source = source
        self._workshop = workshop

    def rows(self, *, overflow: bool = False) -> tuple[NDArray[np.void], NDArray[np.void]]:
        """Returns keys and values; with the row of those that found none, if `overflow`."""
        reading = self.source.read()
        keys = reading.keys
        # A process id comes again, so an older process of that id is another one.
        ours = np.isin(keys["pid"], list(self._workshop.pids())) & (
            keys["start"] >= self._workshop.began
        )
        if overflow:
            ours |= keys["pid"] == 0
        return keys[ours], reading.values[ours]

    def find_owners(self) -> None:
        """Reads until owners have been looked for: not at each reading if some stay unknown."""
        for _ in range(OWNER_READINGS):
            self.source.read()

    def flows(self, *, overflow: bool = False) -> dict[Who, Moved]:
        """Returns what the processes have moved; rows in which nothing moved are left out."""
        keys, values = self.rows(overflow=overflow)
        moved = {
            who: Moved(*value["bytes"].tolist(), *value["operations"].tolist())
            for who, value in zip(names(keys), values, strict=True)
        }
        return {who: row for who, row in moved.items() if row != NOTHING}

    def connections(self) -> dict[Who, int]:
        """Returns the open connections; rows without are left out."""
        keys, values = self.rows()
        counts = zip(names(keys), values["connections"].tolist(), strict=True)
        return {who: count for who, count in counts if count}

    def all_closed(self) -> bool:
        """Waits until no connection is counted any more; False if some stay."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while self.connections():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Collects without pause meanwhile: what is counted ahead must be paid back, and no
        counter may go back."""
        stop = threading.Event()
        went_back: list[Who] = []

        def collect() -> None:
            last: dict[Who, Moved] = {}
            while not stop.is_set():
                flows = self.flows()
                went_back.extend(
                    who
                    for who, row in last.items()
                    if any(now < before for now, before in zip(flows[who], row, strict=True))
                )
                last = flows

        thread = threading.Thread(target=collect)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        assert not went_back


def names(keys: NDArray[np.void]) -> list[Who]:
    """Returns the rows' keys by name."""
    return [
        Who(
            int(key["pid"]),
            TRANSPORTS.get(int(key["transport"]), ""),
            SIDES.get(int(key["side"]), ""),
            address_text(key["address"].tobytes()),
            int(key["port"]),
        )
        for key in keys
    ]


@contextlib.contextmanager
def own_observer(workshop: Workshop, settings: Network) -> Iterator[Observer]:
    """An observer that starts now, with settings of its own."""
    source = KernelFlows(settings)
    try:
        yield Observer(source, workshop)
    finally:
        source.close()


def agree(observer: Observer, workshop: Workshop) -> None:
    """Compares what Kernob sees with the account: processes, peers, bytes, operations."""
    truth = workshop.truth()
    assert observer.flows() == truth
