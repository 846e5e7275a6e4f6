"""This host: what it is, what is missing on it, programs started and ended, what they use."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE: Final = Path(__file__).parent
PACKAGES: Final = {
    "wrk": "wrk",
    "nginx": "nginx-light",
    "redis-server": "redis-server",
    "redis-benchmark": "redis-tools",
    "nethogs": "nethogs",
    "chromium": "chromium",
}
"""Debian's packages, by the command that is needed of them."""
END_SECONDS: Final = 10.0
_PAGE: Final = os.sysconf("SC_PAGESIZE")


def facts() -> dict[str, str | int]:
    """Returns what the figures depend on: kernel, CPU model, cores, memory in GiB."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PHYS_PAGES") * _PAGE
    return {
        "kernel": platform.release(),
        "cpu": model[1] if model else platform.machine(),
        "cores": os.cpu_count() or 0,
        "memory_gib": round(memory / 2**30),
        "python": platform.python_version(),
    }


def say(text: str) -> None:
    """Says what is measured now."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def missing() -> str:
    """Returns one line that says what has to be installed, empty if nothing."""
    packages = [package for command, package in PACKAGES.items() if not shutil.which(command)]
    return f"missing: apt-get install {' '.join(packages)}" if packages else ""


def compile_c(name: str, scratch: Path) -> Path:
    """Compiles a C file of this directory and returns the program's path in `scratch`."""
    program = scratch / name
    command = (sys.executable, "-m", "ziglang", "cc", "-O2", "-Wall", "-Wextra", "-Werror")
    subprocess.run([*command, "-o", str(program), str(HERE / f"{name}.c")], check=True)
    return program


def free_port() -> int:
    """Returns a TCP port of loopback that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Returns as soon as `condition` holds.

    Raises:
        SystemExit: it didn't within `seconds`; names `what`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"bench: no {what} within {seconds:g} s")
        time.sleep(0.01)


def listens(port: int) -> bool:
    """Tells whether somebody accepts connections on a port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def running(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """Ends a process, politely, when the block ends."""
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def cpu_seconds(pid: int) -> float:
    """Returns the CPU that a process has used, to the nanosecond (clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


def resident_mib(pid: int) -> float:
    """Returns a process's resident memory in MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / 2**20


def reset_peak(pid: int) -> None:
    """Lets `peak_mib` begin anew (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_mib(pid: int) -> float:
    """Returns the most resident memory that a process has had, in MiB."""
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(peak[1]) / 2**10 if peak else 0.0


@contextlib.contextmanager
def holding(hold: Path, servers: int, clients: int, connections: int) -> Iterator[None]:
    """Has processes and sockets open meanwhile; see hold.c."""
    command = [str(hold), str(servers), str(clients), str(connections)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        if not holder.stdout or holder.stdout.readline() != "ready\n":
            raise SystemExit("bench: hold failed")
        yield
