"""Many agents, simulated: the agent's own code makes what each sends, before the first is sent.

Each has 50 series: five conversations of services, with the processes behind them, and the agent
itself. A conversation's rate is steady, so totals are known to the byte.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import httpx
import numpy as np
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics

from kernob import __version__
from kernob.signals.accounts import (
    CONNECTIONS,
    DIRECTIONS,
    OPERATIONS,
    PROCESS_IO,
    SERVICE_IO,
    Peer,
)
from kernob.signals.itself import Itself
from kernob.telemetry.model import Points, Series, Snapshot, attributes
from kernob.telemetry.otlp_data import Deltas, metrics_data

if TYPE_CHECKING:
    from kernob.telemetry.model import Attributes, AttributeValue, Metric

SECOND: Final = 1_000_000_000
SERIES: Final = 50
"""Of one agent."""
_CONVERSATIONS: Final = 5
_SERVICES: Final = 100
_ATTEMPTS: Final = 10
_TIMEOUT: Final = 30.0


@dataclass
class Sent:
    """What a fleet has sent.

    Attributes:
        requests, points: that were acknowledged.
        retried: answers that asked to send again.
        delays: seconds from a request to its answer, one for each request.
        transmit, receive: bytes that the counters of each service have reached, by its name.
    """

    requests: int = 0
    points: int = 0
    retried: int = 0
    delays: list[float] = field(default_factory=list)
    transmit: dict[str, int] = field(default_factory=dict)
    receive: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Agent:
    """One agent.

    Attributes:
        host: its `host.name`.
        bodies: its export requests in protobuf, in order of time.
        totals: what the counters of its services reach at the end: transmit, receive.
    """

    host: str
    bodies: list[bytes]
    totals: dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Fleet:
    """Agents that began to count together.

    Attributes:
        agents: all of them.
        start: when they began, nanoseconds since the Unix epoch.
        interval: seconds between two snapshots.
        rounds: snapshots of each agent.
    """

    agents: list[Agent]
    start: int
    interval: float
    rounds: int

    async def send(self, url: str) -> Sent:
        """Sends all, each agent at its own time within the interval; returns once all is in.

        Args:
            url: of the server (`http://127.0.0.1:4318`).

        Raises:
            RuntimeError: a request was refused for good.
        """
        sent = Sent()
        limits = httpx.Limits(max_connections=len(self.agents))
        async with httpx.AsyncClient(
            base_url=url, limits=limits, timeout=_TIMEOUT, trust_env=False
        ) as client:
            await asyncio.gather(
                *(
                    self._send_one(client, agent, index / len(self.agents), sent)
                    for index, agent in enumerate(self.agents)
                )
            )
        for totals, direction in ((sent.transmit, 0), (sent.receive, 1)):
            summed: defaultdict[str, int] = defaultdict(int)
            for agent in self.agents:
                for service, moved in agent.totals.items():
                    summed[service] += moved[direction]
            totals.update(summed)
        return sent

    async def _send_one(
        self, client: httpx.AsyncClient, agent: Agent, phase: float, sent: Sent
    ) -> None:
        for number, body in enumerate(agent.bodies, 1):
            due = self.start / SECOND + (number + phase) * self.interval
            await asyncio.sleep(due - time.time())
            begin = time.perf_counter()
            await _post(client, body, sent)
            sent.delays.append(time.perf_counter() - begin)
            sent.requests += 1
            sent.points += SERIES


async def _post(client: httpx.AsyncClient, body: bytes, sent: Sent) -> None:
    for _ in range(_ATTEMPTS):
        answer = await client.post(
            "/v1/metrics", content=body, headers={"Content-Type": "application/x-protobuf"}
        )
        if answer.status_code == httpx.codes.OK and not answer.content:
            return
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
            break
        sent.retried += 1
        await asyncio.sleep(float(answer.headers["retry-after"]))
    raise RuntimeError(f"{answer.status_code}: {answer.text}")


def make(*, agents: int, rounds: int, interval: float, start: int = 0) -> Fleet:
    """Returns a fleet, with all that it will send.

    Args:
        agents: how many; on as many hosts.
        rounds: snapshots of each.
        interval: seconds between two of them.
        start: when they begin to count, nanoseconds since the Unix epoch; 0 for once it is made.
    """
    start = start or time.time_ns() + agents * rounds * SECOND // 500
    made = [_agent(number, rounds, interval, start) for number in range(agents)]
    return Fleet(made, start, interval, rounds)


def _agent(number: int, rounds: int, interval: float, start: int) -> Agent:
    resource: dict[str, AttributeValue] = {
        "service.name": "kernob-agent",
        "service.version": __version__,
        "service.instance.id": f"{number:08x}-0000-4000-8000-000000000000",
        "host.name": f"host-{number:03}",
        "host.id": f"{number:032x}",
        "os.type": "linux",
        "os.version": "6.12.0",
    }
    who = attributes(resource)
    itself = Itself(resource, start)
    peers = [_peer(number * _CONVERSATIONS + index) for index in range(_CONVERSATIONS)]
    rates = np.random.default_rng(number).integers(1, 1 << 20, (_CONVERSATIONS, 2))
    bodies = []
    for done in range(1, rounds + 1):
        points = (
            *_conversations(who, start, peers, rates * done),
            *itself.points(
                mode="ebpf",
                parts={"network": "", "datagram peers": "no cgroup version 2"},
                collection_seconds=0.004,
                collections=int(done * interval),
                fill={"flows": (len(peers), 65536), "processes": (len(peers), 16384)},
                map_bytes={"flows": 20 << 20},
                losses={"flows_full": 0},
                overflow={},
                program_seconds={},
                exports={"sent": done - 1},
                queued=0,
                export_delay=None,
            ),
        )
        snapshot = Snapshot(start + int(done * interval * SECOND), points)
        request = encode_metrics(metrics_data(snapshot, Deltas(frozenset())))
        bodies.append(request.SerializeToString())
        assert sum(len(one.series) for one in points) == SERIES
    totals: dict[str, tuple[int, int]] = {}
    for peer, (transmit, receive) in zip(peers, (rates * rounds).tolist(), strict=True):
        before = totals.get(peer.service, (0, 0))
        totals[peer.service] = before[0] + transmit, before[1] + receive
    return Agent(str(resource["host.name"]), bodies, totals)


def _peer(number: int) -> Peer:
    service, peer = number % _SERVICES, (number * 7 + 1) % _SERVICES
    side = "server" if number % 2 else "client"
    port = 8000 + (service if number % 2 else peer)
    return Peer(f"service-{service:03}", "tcp", "ipv4", f"service-{peer:03}", port, side)


def _conversations(
    resource: Attributes,
    start: int,
    peers: list[Peer],
    moved: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
) -> list[Points]:
    """Returns the points of services and processes; `moved` are bytes by peer and direction."""

    def points(metric: Metric, own: list[dict[str, AttributeValue]], values: list[int]) -> Points:
        series = [Series(resource, attributes(one), start) for one in own]
        return Points(metric, series, np.array(values, np.uint64))

    both = [
        (index, peer, {"network.io.direction": direction})
        for index, peer in enumerate(peers)
        for direction in DIRECTIONS
    ]
    services: list[dict[str, AttributeValue]] = [
        {**peer.attributes(), **way} for _, peer, way in both
    ]
    processes: list[dict[str, AttributeValue]] = [
        {
            "process.pid": 1000 + index,
            "process.executable.name": peer.service,
            "service.name": peer.service,
            "network.transport": peer.transport,
            "kernob.peer": peer.peer,
            **way,
        }
        for index, peer, way in both
    ]
    values = moved.ravel().tolist()
    return [
        points(SERVICE_IO, services, values),
        points(OPERATIONS, services, [value // 1000 + 1 for value in values]),
        points(CONNECTIONS, [peer.attributes() for peer in peers], [3] * len(peers)),
        points(PROCESS_IO, processes, values),
    ]
