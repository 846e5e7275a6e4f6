"""What is measured: nothing, empty programs, Kernob, Kernob polling, nethogs.

Each is a context manager that yields a `Tool`, ready to count.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Final

from build_bpf import compile_object

from bench import host
from kernob.kernel.objects import Object

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

KERNOB: Final = str(Path(sys.executable).parent / "kernob")
EMPTY: Final = host.HERE / "vm" / "empty.bpf.c"
SETTLE_SECONDS: Final = 1.5
"""After its start a tool is given this time before it is measured."""
_SERIES: Final = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)


class Tool:
    """One thing that may be attached.

    Attributes:
        pid: of its process, None if it has none.
        delay: seconds until what has happened is in its figures.

    """

    pid: int | None = None
    delay = 0.0

    def seen(self, port: int, pids: Collection[int]) -> tuple[int, int] | None:
        """Returns the bytes it has seen of one server: at the server's end, at the clients'.

        The server has `port`, and `pids` are those of its and its clients' processes. None for
        what counts no bytes.
        """


@contextlib.contextmanager
def nothing() -> Iterator[Tool]:
    """The baseline."""
    yield Tool()


@contextlib.contextmanager
def empty() -> Iterator[Tool]:
    """Programs that do nothing, on the hooks of the network programs."""
    with Object.open(compile_object(EMPTY).read_bytes(), "empty") as programs:
        programs.load()
        for program in programs.programs.values():
            program.attach()
        yield Tool()


class Agent(Tool):
    """A running `kernob agent`.

    Attributes:
        url: of its listener.

    """

    delay = 1.3  # An interval and a collection.

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.pid: int = process.pid
        self.url = url
        self._process = process

    def metrics(self) -> str:
        """Returns the page that Prometheus scrapes.

        Raises:
            SystemExit: the agent has ended; with what it said.
            OSError: it does not answer yet.

        """
        if self._process.poll() is not None:
            output = self._process.stdout.read() if self._process.stdout else ""
            raise SystemExit(f"bench: the agent has ended: {output.strip()}")
        with urllib.request.urlopen(f"{self.url}/metrics") as response:
            text: str = response.read().decode()
            return text

    def seen(self, port: int, pids: Collection[int]) -> tuple[int, int]:  # noqa: ARG002
        """Returns the bytes of one server, by the side of the connection."""
        totals = {"server": 0, "client": 0}
        for name, labels, value in _SERIES.findall(self.metrics()):
            if name == "kernob_network_io_bytes_total" and f'server_port="{port}"' in labels:
                side = re.search(r'kernob_side="(\w+)"', labels)
                assert side
                totals[side[1]] += int(float(value))
        return totals["server"], totals["client"]


@contextlib.contextmanager
def agent(*flags: str) -> Iterator[Agent]:
    """`kernob agent` on a free port, from its first page of metrics on."""
    url = f"127.0.0.1:{host.free_port()}"
    command = [KERNOB, "agent", "--listen", url, *flags]
    # No environment: what is set for another agent on this host is not meant for this one.
    process = subprocess.Popen(
        command, env={}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    with host.running(process):
        found = Agent(process, f"http://{url}")

        def answers() -> bool:
            try:
                found.metrics()
            except urllib.error.URLError:
                return False
            return True

        host.wait_for(answers, "metrics of the agent", 60)
        yield found


def polling() -> contextlib.AbstractContextManager[Agent]:
    """`kernob agent` without eBPF."""
    return agent("--mode", "polling")


class Nethogs(Tool):
    """nethogs on loopback, in its trace mode."""

    delay = 2.3  # It prints what is two rounds old.

    def __init__(self, process: subprocess.Popen[str], output: Path) -> None:
        self.pid: int = process.pid
        self._output = output

    def seen(self, port: int, pids: Collection[int]) -> tuple[int, int]:  # noqa: ARG002
        """Returns what it printed last for each of the processes; the server's is the first."""
        lines = re.findall(r"/(\d+)/\d+\t(\S+)\t(\S+)$", self._output.read_text(), re.MULTILINE)
        totals = {
            int(pid): int(float(sent)) + int(float(received)) for pid, sent, received in lines
        }
        server, *clients = pids
        return totals.get(server, 0), sum(totals.get(pid, 0) for pid in clients)


@contextlib.contextmanager
def nethogs(scratch: Path) -> Iterator[Nethogs]:
    """Debian's nethogs: total bytes (-v 2), every second, all of loopback."""
    output = scratch / "nethogs"
    with output.open("w") as file:
        process = subprocess.Popen(
            ["nethogs", "-t", "-v", "2", "-d", "1", "-a", "lo"],
            stdout=file,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        with host.running(process):
            host.wait_for(lambda: "Refreshing" in output.read_text(), "output of nethogs")
            yield Nethogs(process, output)


def of(scratch: Path) -> dict[str, Callable[[], contextlib.AbstractContextManager[Tool]]]:
    """Returns all of them by name, the baseline first."""
    return {
        "nothing": nothing,
        "empty programs": empty,
        "kernob": agent,
        "kernob polling": polling,
        "nethogs": lambda: nethogs(scratch),
    }
