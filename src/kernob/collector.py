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
    from kernob.config import Config
    from kernob.identity.process import Process
    from kernob.signals.flows import FlowSource
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
            return KernelFlows(config.network)
        except KernelError as error:
            if config.agent.mode == "ebpf":
                raise
            log.warning("polling, not eBPF: %s", error)
            refusal = str(error)
    from kernob.signals.polling import PolledFlows  # noqa: PLC0415

    return PolledFlows(config.network, refusal)


class Collector:
    """Reads the flows and knows whose they are.

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

    def _identify(self, pid: int, start: int) -> Process:
        return self._processes.resolve(pid, start, self.source.record(pid, start))

    def collect(self) -> tuple[Points, ...]:
        """Reads everything once and returns the metrics of the network.

        Raises:
            KernelError: the source can't be read.
        """
        now = time.monotonic()
        if now >= self._next_refresh:
            self._next_refresh = now + NAMES_SECONDS
            self._peers.refresh()
        for process in self._processes.refresh():
            self.accounts.rename(process)
        reading = self.source.read()
        settled = self.accounts.update(reading)
        self.source.settle(reading, settled)
        for start, pid in settled.processes:
            self._processes.forget(pid, start)
        return self.accounts.points()

    def table(self) -> Table:
        """Returns the traffic table as of the last `collect`."""
        return Table(
            time=time.time_ns(),
            host=str(self.resource["host.name"]),
            version=__version__,
            mode=self.source.mode,
            description=self.source.description,
            losses=self.source.losses(),
            rows=rows_of(self.accounts),
        )

    def close(self) -> None:
        """Detaches from the kernel."""
        self.source.close()
