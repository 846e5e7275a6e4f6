"""The traffic workshop: puppet processes that move data on command, and their own account of it.

A `Puppet` is a process of the C program in `traffic/`. It does what it is told, one command at
a time, and adds what each call returned to an account. The truth of a test is that account: it
knows nothing of Kernob. The commands travel over a Unix socket, which is not network.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import signal
import socket
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

COMMAND_SECONDS = float(os.environ.get("KERNOB_COMMAND_SECONDS", "15"))  # emulation is slow


class Who(NamedTuple):
    """One row of what was moved: who, with whom."""

    pid: int
    transport: str
    side: str
    address: str
    port: int


class Moved(NamedTuple):
    """How much: bytes and calls, out and in."""

    transmit: int
    receive: int
    transmit_operations: int
    receive_operations: int


def address_text(address: str | bytes) -> str:
    """Returns the address as people write it: a mapped one as IPv4."""
    parsed = ipaddress.ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)


class Puppet:
    """A process that moves data on command. Commands are those of `traffic/*.c`."""

    def __init__(self, control: socket.socket, pid: int) -> None:
        self.pid = pid
        self._control = control
        self._control.settimeout(COMMAND_SECONDS)
        self._children: list[Puppet] = []

    def start(self, *words: object) -> None:
        """Sends a command and does not wait; `finish` does."""
        self._control.send(" ".join(map(str, words)).encode())

    def finish(self) -> int:
        """Returns the result of the command under way; raises OSError if it failed."""
        answer = self._control.recv(64)
        if not answer:
            raise OSError(f"puppet {self.pid} has gone")
        if (result := int(answer)) < 0:
            raise OSError(-result, os.strerror(-result))
        return result

    def call(self, *words: object) -> int:
        """Runs a command and returns its result; raises OSError if it failed."""
        self.start(*words)
        return self.finish()

    def fork(self) -> Puppet:
        """Returns a child that has all of this one's sockets."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            socket.send_fds(self._control, [b"fork"], [theirs.fileno()])
            child = Puppet(ours, self.finish())
        self._children.append(child)
        return child

    def pass_socket(self, fd: int, other: Puppet) -> int:
        """Passes a socket to another process; returns its number there."""
        self.start("give", fd)
        _, fds, _, _ = socket.recv_fds(self._control, 64, 1)
        socket.send_fds(other._control, [b"take"], fds)
        os.close(fds[0])
        return other.finish()

    def kill(self) -> None:
        """Ends it as `kill -9` does."""
        os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Lets it and its children end."""
        for child in self._children:
            child.close()
        self._control.close()


class Workshop:
    """All puppets of one test."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self._started: list[tuple[Puppet, subprocess.Popen[bytes]]] = []
        self._earlier: list[str] = []
        self._pids: set[int] = set()
        self.began = time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def puppet(self, network: str = "") -> Puppet:
        """Starts a puppet, in the network namespace of that name."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen([self._program], stdin=theirs)
        puppet = Puppet(ours, process.pid)
        self._started.append((puppet, process))
        self._pids.add(puppet.pid)
        if network:
            puppet.call("network", f"/var/run/netns/{network}")
        return puppet

    def pair(self) -> tuple[Puppet, int, Puppet, int]:
        """Returns a client, its connected socket, a server and its accepted one."""
        client, server = self.puppet(), self.puppet()
        listener = server.call("listen", "127.0.0.1", 0)
        connection = client.call("connect", "127.0.0.1", server.call("port", listener))
        accepted = server.call("accept", listener)
        server.call("close", listener)
        return client, connection, server, accepted

    def _report(self, puppet: Puppet) -> list[str]:
        path = self._folder / f"{puppet.pid}.json"
        puppet.call("report", path)
        return path.read_text().splitlines()

    def execute(self, puppet: Puppet) -> None:
        """Lets the puppet execute its program anew: its memory goes, its sockets stay."""
        self._earlier += self._report(puppet)
        puppet.call("exec")

    def truth(self) -> dict[Who, Moved]:
        """Returns what all puppets and their children have moved so far."""
        lines = list(self._earlier)
        for puppet, process in self._started:
            if process.poll() is None:
                lines += self._report(puppet)
        sums: dict[Who, Counter[str]] = {}
        for row in map(json.loads, lines):
            who = Who(
                row.pop("pid"),
                row.pop("transport"),
                row.pop("side"),
                address_text(row.pop("address")),
                row.pop("port"),
            )
            self._pids.add(who.pid)
            sums.setdefault(who, Counter()).update(row)
        return {
            who: Moved(**{name: row[name] for name in Moved._fields}) for who, row in sums.items()
        }

    def pids(self) -> set[int]:
        """Returns all processes of the test: children from when `truth` has heard of them."""
        return self._pids

    def close(self) -> None:
        """Ends all puppets."""
        for puppet, process in self._started:
            puppet.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(2)
            process.kill()
            process.wait()


def transfer(
    sender: tuple[Puppet, int],
    receiver: tuple[Puppet, int],
    total: int,
    *,
    chunk: int = 65536,
    send: str = "send",
    receive: str = "recv",
) -> None:
    """Moves `total` bytes over a stream, with the calls named; all arrive."""
    receiver[0].start("receive", receiver[1], receive, total, chunk)
    assert sender[0].call("send", sender[1], send, total, chunk) == total
    assert receiver[0].finish() == total


def unread(port: int) -> int:
    """Returns the bytes that wait to be read on the connections of a serving IPv4 port."""
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return sum(
        int(row[4].split(":")[1], 16) for row in rows if int(row[1].split(":")[1], 16) == port
    )


def free_udp_port() -> int:
    """Returns a port below the ephemeral ones: so the kernel's side rule sees a server there."""
    for port in range(20000 + os.getpid() % 5000, 30000):
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("::", port))
            except OSError:
                continue
            return port
    raise OSError("no free port")
