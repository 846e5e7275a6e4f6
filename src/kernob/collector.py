"""From a source of flows to points and the traffic table: what the agent and `top` share."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Final

from kernob import __version__
from kernob.errors import KernelError
from kernob.identity.host import resource
from kernob.identity.peers import Peers
from kernob.identity.process import Processes
from kernob.signals.accounts import Accounts
from kernob.traffic import Table, rows_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from kernob.config import Config
    from kernob.identity.process import Process
    from kernob.signals.flows import FlowSource, ProcessId
    from kernob.signals.ledger import Ledger
    from kernob.signals.requests import KernelRequests
    from kernob.signals.samples import Sample, Samples
    from kernob.telemetry.model import Points

NAMES_SECONDS: Final = 30.0
"""How often this host's addresses and /etc/hosts are looked at."""

log = logging.getLogger(__name__)


def open_source(config: Config) -> FlowSource:
    """Returns the best source of flows that this host allows, or the one that was asked for.

    Raises:
        KernelError: eBPF was asked for and can't be had, or nothing works.
    """
    # Imported here: each of the two brings a library that the other has no use for.
    refusal = "agent.mode is polling"
    if config.agent.mode != "polling":
        from kernob.signals.network import KernelFlows  # noqa: PLC0415

        try:
            return KernelFlows(config.network, requests=config.requests.enabled)
        except KernelError as error:
            if config.agent.mode == "ebpf":
                raise
            log.warning("polling, not eBPF: %s", error)
            refusal = str(error)
    from kernob.signals.polling import PolledFlows  # noqa: PLC0415

    return PolledFlows(config.network, refusal)


class Collector:
    """Reads the flows and the requests, and knows whose they are.

    Attributes:
        source: of the flows.
        requests: of the requests; None where they can't be seen.
        no_requests: why not; empty if they are.
        samples: single requests; None where there are no requests.
        new_samples: those of the last reading.

    Raises:
        KernelError: see `open_source`.
    """

    def __init__(self, config: Config) -> None:
        self.source = open_source(config)
        self._processes = Processes(config.services)
        self._peers = Peers(config.peers)
        self.resource = resource(os.environ)
        self._next_refresh = 0.0
        now = time.time_ns()
        self.accounts = Accounts(
            identify=self._identify,
            name_peer=self._peers.name,
            serves=self._peers.serves,
            resource=self.resource,
            start=now,
            boot=now - time.clock_gettime_ns(time.CLOCK_BOOTTIME),
            peers_per_server=config.network.peers_per_server,
            conversations=config.metrics.series_limit,
        )
        self.requests, self.no_requests = self._open_requests(config)
        self._ledger: Ledger | None = None
        self.samples: Samples | None = None
        self.new_samples: list[Sample] = []
        if self.requests:
            self._ledger, self.samples = self._name_requests(config, self.requests, now)

    def _open_requests(self, config: Config) -> tuple[KernelRequests | None, str]:
        """Returns the source of requests, or None and why there is none."""
        if not config.requests.enabled:
            return None, "requests.enabled is off"
        if self.source.mode == "polling":
            return None, "polling sees no requests"
        from kernob.signals.network import KernelFlows  # noqa: PLC0415
        from kernob.signals.requests import KernelRequests  # noqa: PLC0415

        if not isinstance(self.source, KernelFlows):
            raise TypeError(f"no source of requests beside {self.source.mode}")
        try:
            return KernelRequests(self.source, config.requests), ""
        except KernelError as error:
            log.warning("bytes only, no requests: %s", error)
            return None, str(error)

    def _name_requests(
        self, config: Config, source: KernelRequests, now: int
    ) -> tuple[Ledger, Samples]:
        from kernob.signals.ledger import Ledger  # noqa: PLC0415
        from kernob.signals.operations import Operations  # noqa: PLC0415
        from kernob.signals.samples import Samples  # noqa: PLC0415

        operations = Operations(
            identify=self._identify,
            name_peer=self._peers.name,
            host=str(self.resource["host.name"]),
            texts=config.requests.texts,
        )
        ledger = Ledger(operations, resource=self.resource, start=now)
        return ledger, Samples(source, operations)

    def _identify(self, pid: int, start: int) -> Process:
        return self._processes.resolve(pid, start, self.source.record(pid, start))

    def collect(self) -> tuple[Points, ...]:
        """Reads everything once and returns the metrics of network and requests.

        `new_samples` are those of this reading from then on.

        Raises:
            KernelError: the source can't be read.
        """
        now = time.monotonic()
        if now >= self._next_refresh:
            self._next_refresh = now + NAMES_SECONDS
            self._peers.refresh()
            if self.samples:
                self.samples.rename()
        for process in self._processes.refresh():
            self.accounts.rename(process)
            if self._ledger and self.samples:
                self._ledger.rename(process)
                self.samples.rename()
        reading = self.source.read()
        settled = self.accounts.update(reading)
        # Before the names of processes go that have ended: some of their requests may be new.
        requests = self._collect_requests(settled.processes)
        self.source.settle(reading, settled)
        for start, pid in settled.processes:
            self._processes.forget(pid, start)
        return (*self.accounts.points(), *requests)

    def _collect_requests(self, ended: Collection[ProcessId]) -> tuple[Points, ...]:
        if self.requests is None or self._ledger is None or self.samples is None:
            return ()
        self.samples.read()
        self._ledger.update(self.requests.read())
        self.new_samples = self.samples.take()
        self._ledger.release(self.requests.release(ended))
        return self._ledger.points()

    def parts(self) -> dict[str, str]:
        """Returns what can be observed, each with why it is not here; empty if it is."""
        own = self.requests.parts() if self.requests else {}
        return {**self.source.parts(), "requests": self.no_requests, **own}

    def losses(self) -> dict[str, int]:
        """Returns what could not be counted, by reason, since the start.

        Samples are not among it: no figure depends on them.
        """
        own = self.requests.losses() if self.requests else {}
        counted = {name: count for name, count in own.items() if name != "samples_dropped"}
        return {**self.source.losses(), **counted}

    def samples_dropped(self) -> int:
        """Returns the single requests that the kernel's ring had no room for, since the start."""
        return self.requests.losses()["samples_dropped"] if self.requests else 0

    def fill(self) -> dict[str, tuple[int, int]]:
        """Returns entries and capacity of each table."""
        return {**self.source.fill(), **(self.requests.fill() if self.requests else {})}

    def memory(self) -> dict[str, int]:
        """Returns the bytes that the kernel keeps for each table."""
        return {**self.source.memory(), **(self.requests.memory() if self.requests else {})}

    def program_seconds(self) -> dict[str, float]:
        """Returns the mean time of one run of each program in the kernel; empty if unknown."""
        own = self.requests.statistics() if self.requests else {}
        times = {
            name: found.run_time_ns / found.runs / 1e9 for name, found in own.items() if found.runs
        }
        return {**self.source.program_seconds(), **times}

    def table(self) -> Table:
        """Returns the traffic table as of the last `collect`."""
        return Table(
            time=time.time_ns(),
            host=str(self.resource["host.name"]),
            version=__version__,
            mode=self.source.mode,
            description=self.source.description,
            losses=self.losses(),
            rows=rows_of(self.accounts),
        )

    def close(self) -> None:
        """Detaches from the kernel."""
        if self.requests:
            self.requests.close()
        self.source.close()
