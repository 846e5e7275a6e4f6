"""Each kind of attachment counts what this test does, and stops when its link is closed."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kernob.errors import KernelError
from kernob.kernel.links import cgroup_root, online_cpus

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernob.kernel.objects import Object

pytestmark = pytest.mark.live


def _end_processes(count: int) -> None:
    for _ in range(count):
        subprocess.run(["/bin/true"], check=True)


@pytest.mark.parametrize(("name", "slot"), [("typed_exit", 0), ("raw_exit", 1), ("plain_exit", 2)])
def test_tracepoints_see_ends_of_processes(sample: Object, name: str, slot: int) -> None:
    with sample.programs[name].attach():
        _end_processes(5)
    during = int(sample.variables["hits"][slot])
    _end_processes(3)

    assert during == 5
    assert int(sample.variables["hits"][slot]) == 5


def test_a_clock_ticks_while_this_process_works(sample: Object) -> None:
    links = sample.programs["tick"].attach_clock(1000)
    start = time.process_time()
    while time.process_time() - start < 0.3:
        pass
    ticks = int(sample.variables["hits"][3])
    for link in links:
        link.close()
    closed = int(sample.variables["hits"][3])
    start = time.process_time()
    while time.process_time() - start < 0.05:
        pass

    assert len(links) == len(online_cpus())
    assert 150 < ticks < 600
    assert int(sample.variables["hits"][3]) == closed


def test_functions_are_seen_at_entry_and_return(sample: Object) -> None:
    libc = next(
        Path(line.split(maxsplit=5)[5].strip())
        for line in Path("/proc/self/maps").read_text().splitlines()
        if "/libc.so" in line
    )
    with (
        sample.programs["enter"].attach_function(libc, "getppid"),
        sample.programs["leave"].attach_function(libc, "getppid", returns=True, pid=os.getpid()),
    ):
        for _ in range(10):
            os.getppid()
    os.getppid()

    assert sample.variables["hits"][4:6].tolist() == [10, 10]


def test_a_function_that_is_not_there(sample: Object) -> None:
    with pytest.raises(KernelError, match=r"can't attach program enter \(uprobe\)"):
        sample.programs["enter"].attach_function(Path("/bin/true"), "no_such_function")


def test_a_cgroup_sees_datagrams(sample: Object) -> None:
    root = cgroup_root()
    if root is None:
        pytest.skip("cgroup version 2 is not mounted")
    with (
        sample.programs["send_datagram"].attach_cgroup(root),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
    ):
        receiver.bind(("127.0.0.1", 0))
        for _ in range(4):
            sender.sendto(b"x", receiver.getsockname())

    assert int(sample.variables["hits"][6]) == 4


def test_a_cgroup_that_is_not_there(sample: Object) -> None:
    with pytest.raises(KernelError, match="can't open cgroup /no/such"):
        sample.programs["send_datagram"].attach_cgroup(Path("/no/such"))


def test_bpftool_sees_programs_and_links(sample: Object, bpftool: Callable[..., Any]) -> None:
    program = sample.programs["typed_exit"]
    number = program.statistics().id

    with program.attach():
        during = {link["prog_id"] for link in bpftool("link", "show")}
    after = {link["prog_id"] for link in bpftool("link", "show")}

    (known,) = [p for p in bpftool("prog", "show") if p["id"] == number]
    assert (known["name"], known["type"]) == ("typed_exit", "tracing")
    assert number in during
    assert number not in after


def test_a_closed_link_says_so(sample: Object) -> None:
    link = sample.programs["typed_exit"].attach()

    link.close()
    link.close()

    with pytest.raises(KernelError, match="link is closed"):
        link.fd  # noqa: B018
