"""The kernel's table of requests: its bounds, what it loses, what it costs the verifier."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernob.config import Network, Requests
from kernob.signals.network import KernelFlows
from kernob.signals.requests import PROTOCOLS, UNPAIRED, UNSEEN, KernelRequests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.live

MOST_INSTRUCTIONS = 150_000
"""That the verifier may look at: a program in the kernel may have a million."""


@pytest.fixture
def start() -> Iterator[Callable[..., KernelRequests]]:
    opened: list[KernelFlows | KernelRequests] = []

    def start(**settings: int) -> KernelRequests:
        flows = KernelFlows(Network(flows=1024, processes=256), requests=True)
        opened.append(flows)
        requests = KernelRequests(flows, Requests(**settings))
        opened.append(requests)
        return requests

    yield start
    for source in reversed(opened):
        source.close()


def converse(commands: list[bytes]) -> int:
    """Sends Redis' commands over a connection of this process, one by one; returns the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname()) as client:
            server, _ = listener.accept()
            with server:
                for command in commands:
                    request = b"*1\r\n$%d\r\n%s\r\n" % (len(command), command)
                    client.sendall(request)
                    assert server.recv(1000) == request
                    server.sendall(b"+OK\r\n")
                    assert client.recv(100) == b"+OK\r\n"
        return int(listener.getsockname()[1])


def names(count: int) -> list[bytes]:
    """Returns names of commands that are all different."""
    return [b"CMD" + bytes((65 + number // 26 % 26, 65 + number % 26)) for number in range(count)]


def test_every_program_is_small_for_the_verifier(start: Callable[..., KernelRequests]) -> None:
    requests = start()

    assert requests.missing == {}
    sizes = {
        name: int(re.findall(r"verified_insns:\s*(\d+)", info.read_text())[0])
        for name, info in (
            (name, Path(f"/proc/self/fdinfo/{program.fd}"))
            for name, program in requests.object.programs.items()
            if program.loaded
        )
    }
    assert {name: size for name, size in sizes.items() if size > MOST_INSTRUCTIONS} == {}
    assert {name.removesuffix("_send_length") for name in sizes} >= {"start", *PROTOCOLS[1:]}


def test_reasons_are_those_of_the_c_side(start: Callable[..., KernelRequests]) -> None:
    variables = start().object.variables

    assert variables["unpaired"].shape == (len(PROTOCOLS), len(UNPAIRED))
    assert variables["unseen"].shape == (len(PROTOCOLS), len(UNSEEN))


def test_a_full_table_counts_in_its_first_row(start: Callable[..., KernelRequests]) -> None:
    requests = start(series=16, series_per_process=1000)

    port = converse([name for name in names(100) for _ in range(3)])

    reading = requests.read()
    own = reading.numbers[reading.keys["port"] == port]
    counted = reading.rows["buckets"][own].sum() + reading.rows["buckets"][0].sum()
    assert counted >= 2 * 300  # row 0 is everybody's on this machine
    assert 0 < len(own) < 16
    assert requests.losses()["series_overflowed"] > 0
    assert 0 in reading.changed


def test_a_process_with_too_many_operations_has_one_for_the_rest(
    start: Callable[..., KernelRequests],
) -> None:
    requests = start(series=1024, series_per_process=40)

    port = converse(names(100))

    reading = requests.read()
    own = reading.keys["port"] == port
    rest = own & (reading.keys["operation"] == 0)
    assert reading.rows["buckets"][reading.numbers[own]].sum() == 2 * 100
    assert reading.rows["buckets"][reading.numbers[rest]].sum() > 0
    assert 40 <= own.sum() <= 42
    assert requests.losses()["operations_overflowed"] > 0


def test_rows_of_processes_that_ended_are_used_again(start: Callable[..., KernelRequests]) -> None:
    requests = start(series=64)
    for _ in range(10):
        child = os.fork()
        if not child:
            converse(names(20))
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0

        reading = requests.read()
        own = reading.keys["pid"] == child
        assert reading.rows["buckets"][reading.numbers[own]].sum() == 40
        starts = set(reading.keys["start"][own].tolist())
        freed = requests.release([(start, child) for start in starts])
        assert sorted(freed.tolist()) == sorted(reading.numbers[own].tolist())
        assert not reading.rows["buckets"][freed].any()

    assert requests.losses()["series_overflowed"] == 0


def test_an_idle_table_has_nothing_to_say(start: Callable[..., KernelRequests]) -> None:
    requests = start()
    port = converse(names(3))
    first = requests.read()
    assert (first.keys["port"] == port).sum() == 6

    again = requests.read()

    assert not set(again.changed.tolist()) & set(first.numbers[first.keys["port"] == port].tolist())
    assert [text for text in again.texts if text.text in {"CMDAA", "CMDAB", "CMDAC"}] == []


def test_samples_stand_for_all_requests(start: Callable[..., KernelRequests]) -> None:
    requests = start(samples_per_second=10_000)
    port = converse([b"PING"] * 500)

    samples = requests.samples()
    samples = samples[(samples["key"]["port"] == port) & (samples["key"]["side"] == 2)]
    reading = requests.read()
    row = reading.numbers[(reading.keys["port"] == port) & (reading.keys["side"] == 2)]

    assert 1 <= len(samples) < 100
    assert samples["weight"].sum() + reading.rows["since"][row].sum() == 500
    assert (samples["last"] >= samples["first"]).all()
    assert (samples["first"] >= samples["start"]).all()
