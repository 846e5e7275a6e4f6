"""Polling against eBPF: the same traffic, read by both every second.

Seen is what a source knows of the process that sent it. Polling also knows the bytes of sockets
that ended between two polls, but not whose they were: these count as not seen.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections import defaultdict
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from bench import host
from kernob.config import Network
from kernob.signals.network import KernelFlows
from kernob.signals.polling import PolledFlows

if TYPE_CHECKING:
    from pathlib import Path

    from kernob.signals.flows import FlowSource

INTERVAL: Final = 1.0
SOCKETS: Final = (5, 5, 1000)
"""What `hold` is told, for 10,000 sockets."""
Pids = dict[int, int]


class Watcher:
    """A source of flows, what it has shown of each process, and what reading it cost.

    Attributes:
        sent: bytes sent, by process.
        costs: seconds of CPU of each reading.

    """

    def __init__(self, source: FlowSource) -> None:
        self._source = source
        self.sent: Pids = {}
        self.costs: list[float] = []

    def read(self) -> None:
        """Reads once."""
        before = time.thread_time()
        reading = self._source.read()
        self.costs.append(time.thread_time() - before)
        self.sent = defaultdict(int)
        for pid, moved in zip(reading.keys["pid"], reading.values["bytes"][:, 0], strict=True):
            self.sent[int(pid)] += int(moved)


def watch(process: subprocess.Popen[str], watchers: dict[str, Watcher]) -> None:
    """Reads with all watchers until a process has ended, and once more."""
    ended = False
    while not ended:
        try:
            process.wait(INTERVAL)
            ended = True
        except subprocess.TimeoutExpired:
            pass
        for watcher in watchers.values():
            watcher.read()


def measure(scratch: Path, *, quick: bool) -> dict[str, list[dict[str, Any]]]:
    """Returns two tables: what each saw of which traffic, and what a reading costs."""
    settings = Network()
    traffic, hold = host.compile_c("traffic", scratch), host.compile_c("hold", scratch)
    with (
        contextlib.closing(KernelFlows(settings)) as counted,
        contextlib.closing(PolledFlows(settings)) as polled,
    ):
        watchers = {"kernob": Watcher(counted), "polling": Watcher(polled)}
        command = [str(traffic), "2.5" if quick else "4"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            watch(process, watchers)
            output = process.stdout.read() if process.stdout else ""
        sent: dict[str, Pids] = defaultdict(dict)
        for kind, pid, count in map(str.split, output.splitlines()):
            sent[kind][int(pid)] = int(count)
        few = {name: median(watcher.costs) for name, watcher in watchers.items()}
        with host.holding(hold, *SOCKETS):
            for watcher in watchers.values():
                watcher.read()  # Whose the sockets are is found once.
                watcher.costs.clear()
            for _ in range(2 if quick else 5):
                time.sleep(INTERVAL)
                for watcher in watchers.values():
                    watcher.read()
        many = {name: median(watcher.costs) for name, watcher in watchers.items()}
    return {
        "polling": [
            _row(kind, name, sent[kind], watcher.sent)
            for kind in sent
            for name, watcher in watchers.items()
        ],
        "reading": [
            {
                "sockets": sockets,
                "with": name,
                "reading_cpu_ms": cost * 1e3,
                # How old a figure gets if reading may use one percent of a core.
                "age_at_1_percent_ms": cost * 1e5,
            }
            for sockets, costs in (("20", few), ("10,000", many))
            for name, cost in costs.items()
        ],
    }


def _row(kind: str, name: str, sent: Pids, seen: Pids) -> dict[str, Any]:
    return {
        "traffic": kind,
        "with": name,
        "bytes": sum(sent.values()),
        "bytes_seen_share": sum(seen.get(pid, 0) for pid in sent) / sum(sent.values()),
        "processes": len(sent),
        "processes_seen_share": sum(1 for pid in sent if seen.get(pid)) / len(sent),
    }
