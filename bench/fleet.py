"""Many agents, simulated: the agent's own code makes what each sends, a program in C sends it.

Each has 50 series: five conversations of services, with the processes behind them, and the agent
itself. A body is made once; from round to round the sender changes its times, and its counters by
as much as they grew between the first two rounds. A conversation's rate is steady, so totals are
known to the byte.
"""

from __future__ import annotations

import re
import struct
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics

from bench import bodies
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
    from pathlib import Path

    from numpy.typing import NDArray

    from kernob.telemetry.model import Attributes, AttributeValue, Metric

SECOND: Final = 1_000_000_000
SERIES: Final = 50
"""Of one agent."""
_CONVERSATIONS: Final = 5
_SERVICES: Final = 100
# Fields of NumberDataPoint (opentelemetry/proto/metrics/v1/metrics.proto) as protobuf tags them.
_TIME: Final = b"\x19"
_INTEGER: Final = b"\x31"


class Sent(msgspec.Struct, frozen=True):
    """What the sender says of a fleet; see sender.c.

    Attributes:
        requests: answered for good.
        accepted: of them, with success.
        seconds: from the first one to the last answer.
        p50, p99: microseconds to an answer.
        cpu: seconds that the sender used.
        retried: answers that asked to send again.
        late: the most microseconds that an agent still waited when its next round was due.
    """

    requests: int
    accepted: int
    seconds: float
    p50: int
    p99: int
    cpu: float
    retried: int
    late: int


@dataclass(frozen=True)
class Agent:
    """One agent.

    Attributes:
        host: its `host.name`.
        body: the export request of its first round, in protobuf.
        points: shape (series, 2): where each one's time is in the body, and how much its value
            grows in a round.
        grows: bytes that its services move in a round: transmit, receive.
    """

    host: str
    body: bytes
    points: NDArray[np.int64]
    grows: dict[str, tuple[int, int]]


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

    @property
    def points(self) -> int:
        """That they send."""
        return len(self.agents) * self.rounds * SERIES

    def moved(self, direction: int) -> dict[str, int]:
        """Returns the bytes that each service's counters reach: 0 for transmit, 1 for receive."""
        summed: Counter[str] = Counter()
        for agent in self.agents:
            for service, grows in agent.grows.items():
                summed[service] += grows[direction] * self.rounds
        return dict(summed)

    def send(self, sender: Path, port: int, scratch: Path) -> Sent:
        """Sends all, each agent at its own time within the interval; returns once all is in.

        Args:
            sender: the program.
            port: of the server.
            scratch: folder for what it sends.

        Raises:
            SystemExit: the sender failed, or a request was refused for good.
        """
        file = scratch / "fleet"
        with file.open("wb") as out:
            for agent in self.agents:
                request = bodies.request("/v1/metrics", agent.body)
                points = agent.points + np.array([len(request) - len(agent.body), 0])
                out.write(struct.pack("=Q", len(request)) + request)
                out.write(struct.pack("=Q", len(points)) + points.tobytes())
        command = [str(sender), str(port), str(len(self.agents)), str(file)]
        command += [str(self.rounds), str(round(self.interval * 1000))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"bench: sender: {done.stderr}")
        sent = msgspec.json.decode(done.stdout, type=Sent)
        if sent.accepted < len(self.agents) * self.rounds:
            raise SystemExit(f"bench: {sent.accepted} accepted: {done.stderr}")
        return sent


def make(*, agents: int, rounds: int, interval: float, start: int = 0) -> Fleet:
    """Returns a fleet, with all that it will send.

    Args:
        agents: how many; on as many hosts.
        rounds: snapshots of each.
        interval: seconds between two of them.
        start: when they begin to count, nanoseconds since the Unix epoch; 0 for now.
    """
    start = start or time.time_ns()
    made = [_agent(number, interval, start) for number in range(agents)]
    return Fleet(made, start, interval, rounds)


def _agent(number: int, interval: float, start: int) -> Agent:
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
    times = [start + int(done * interval * SECOND) for done in (1, 2)]
    first, second = (
        _body(Snapshot(time, _snapshot(who, start, itself, peers, rates, done, interval)))
        for done, time in enumerate(times, 1)
    )
    grows: dict[str, tuple[int, int]] = {}
    for peer, (transmit, receive) in zip(peers, rates.tolist(), strict=True):
        before = grows.get(peer.service, (0, 0))
        grows[peer.service] = before[0] + transmit, before[1] + receive
    points = _growing(first, second, *times)
    return Agent(str(resource["host.name"]), first, points, grows)


def _snapshot(
    resource: Attributes,
    start: int,
    itself: Itself,
    peers: list[Peer],
    rates: NDArray[np.int64],
    done: int,
    interval: float,
) -> tuple[Points, ...]:
    """Returns all points of an agent after so many rounds."""
    points = (
        *_conversations(resource, start, peers, rates * done),
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
            unpaired={},
            unseen={},
            samples_dropped={},
        ),
    )
    assert sum(len(one.series) for one in points) == SERIES
    return points


def _body(snapshot: Snapshot) -> bytes:
    body: bytes = encode_metrics(metrics_data(snapshot, Deltas(frozenset()))).SerializeToString()
    return body


def _growing(first: bytes, second: bytes, first_time: int, second_time: int) -> NDArray[np.int64]:
    """Returns `Agent.points`, from the bodies of two rounds."""
    assert len(first) == len(second)
    points = []
    for found in re.finditer(re.escape(_TIME + struct.pack("<Q", first_time)), first):
        at = found.start() + len(_TIME)
        assert struct.unpack_from("<Q", second, at) == (second_time,)
        # Eight bytes of time, one that says what the value is.
        value = at + 9
        before, after = (struct.unpack_from("<q", body, value)[0] for body in (first, second))
        points.append((at, after - before if first[value - 1 : value] == _INTEGER else 0))
    assert len(points) == SERIES
    return np.array(points, np.int64)


def _peer(number: int) -> Peer:
    service, peer = number % _SERVICES, (number * 7 + 1) % _SERVICES
    side = "server" if number % 2 else "client"
    port = 8000 + (service if number % 2 else peer)
    return Peer(f"service-{service:03}", "tcp", "ipv4", f"service-{peer:03}", port, side)


def _conversations(
    resource: Attributes,
    start: int,
    peers: list[Peer],
    moved: NDArray[np.int64],
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
