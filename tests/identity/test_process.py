from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pytest

from kernob.config import Network
from kernob.identity import procfs
from kernob.identity.containers import Containers
from kernob.identity.process import KERNEL, UNKNOWN, Process, Processes, user_name
from kernob.identity.service import Rule
from kernob.kernel import objects
from kernob.signals.network import KernelFlows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Podman


class Starter(Protocol):
    def __call__(
        self, *command: str, wait_for: str = "", **options: Any
    ) -> subprocess.Popen[bytes]: ...


@pytest.fixture
def start() -> Iterator[Starter]:
    """Starts programs; returns once they have executed what they should."""
    with contextlib.ExitStack() as stack:

        def run(*command: str, wait_for: str = "", **options: Any) -> subprocess.Popen[bytes]:
            child = subprocess.Popen(command, stdin=subprocess.PIPE, **options)
            stack.callback(child.wait)
            stack.callback(child.kill)
            assert child.stdin
            stack.callback(child.stdin.close)
            deadline = time.monotonic() + 10
            # Within exec, the command line is empty for a moment.
            while not (
                seen := Path(f"/proc/{child.pid}/cmdline").read_text()
            ) or not seen.startswith(wait_for):
                assert time.monotonic() < deadline, f"{command} is not there"
                time.sleep(0.01)
            return child

        yield run


@pytest.fixture(scope="module")
def record_dtype() -> np.dtype[Any]:
    network = objects.read("network")
    try:
        return network.btf.struct("process")
    finally:
        network.close()


def resolve(pid: int, processes: Processes | None = None) -> Process:
    started = procfs.process_start(pid)
    assert started is not None
    return (Processes() if processes is None else processes).resolve(pid, started)


def ps(pid: int, column: str) -> str:
    command = ["ps", "-ww", "-o", f"{column}=", "-p", str(pid)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_a_process_is_what_ps_says(start: Starter) -> None:
    child = start("sleep", "61")

    process = resolve(child.pid)

    assert process.name == ps(child.pid, "comm") == process.executable == process.service
    assert " ".join(process.command) == ps(child.pid, "args")
    assert process.user == ps(child.pid, "ruser")
    assert process.parent == int(ps(child.pid, "ppid")) == os.getpid()
    assert process.path == os.path.realpath(shutil.which("sleep") or "")
    assert process.cgroup in ps(child.pid, "cgroup")


def test_a_program_of_several_names_is_what_it_was_called(start: Starter, tmp_path: Path) -> None:
    link = tmp_path / "shop-daemon"
    link.symlink_to(shutil.which("sleep") or "")
    child = start(str(link), "61")

    process = resolve(child.pid)

    assert (process.executable, process.service) == ("sleep", "shop-daemon")


def test_start_is_the_kernels(start: Starter) -> None:
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    child = start("sleep", "61")
    after = time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    started = procfs.process_start(child.pid)

    tick = 10**9 // os.sysconf("SC_CLK_TCK")
    assert started is not None
    assert before - tick <= started <= after
    assert procfs.same_start(started, started + tick - 1)
    assert not procfs.same_start(started, started + tick)


def test_another_process_of_the_same_id_is_unknown(start: Starter) -> None:
    child = start("sleep", "61")
    started = procfs.process_start(child.pid)
    assert started

    process = Processes().resolve(child.pid, started - 10**9)

    assert (process.service, process.command, process.name) == (UNKNOWN, (), "")


def test_a_process_without_privileges(start: Starter) -> None:
    if os.geteuid():
        pytest.skip("another user's process needs root to make")
    child = start(
        "setpriv", "--reuid=65534", "--clear-groups", "sleep", "62", wait_for="sleep\x0062"
    )

    assert resolve(child.pid).user == user_name(65534) == ps(child.pid, "ruser")


@pytest.mark.parametrize(
    ("command", "service"),
    [
        ((sys.executable, "-u", "{dir}/shop.py"), "shop"),
        ((sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "0"), "http.server"),
        (("bash", "-eu", "{dir}/backup.sh"), "backup"),
        (("sh", "-c", "read x; exit"), "dash"),
        (("perl", "-w", "{dir}/count.pl"), "count"),
        (("node", "--no-warnings", "{dir}/server.js"), "server"),
        (("java", "-Xmx16m", "-cp", "{dir}", "{dir}/Main.java"), "Main"),
    ],
)
def test_interpreters(
    start: Starter, tmp_path: Path, command: tuple[str, ...], service: str
) -> None:
    if not shutil.which(command[0]):
        pytest.skip(f"no {command[0]} here")
    (tmp_path / "shop.py").write_text("input()")
    (tmp_path / "backup.sh").write_text("read x")
    (tmp_path / "count.pl").write_text("<STDIN>")
    (tmp_path / "server.js").write_text("process.stdin.resume()")
    (tmp_path / "Main.java").write_text(
        "class Main { public static void main(String[] a) throws Exception { System.in.read(); } }"
    )
    if service == "dash" and not os.path.realpath("/bin/sh").endswith("dash"):
        service = Path("/bin/sh").resolve().name

    child = start(*(word.format(dir=tmp_path) for word in command))

    assert resolve(child.pid).service == service


def test_a_secret_on_the_command_line_is_kept_nowhere(start: Starter) -> None:
    child = start(
        sys.executable, "-c", "input()", "--password", "S3cr3tWord", "https://a:S3cr3tWord@b/"
    )
    processes = Processes([Rule({"command": "*"}, "{command}")])

    process = resolve(child.pid, processes)

    assert process.command[-3:] == ("--password", "***", "https://a:***@b/")
    assert "S3cr3tWord" not in repr(process)
    assert "S3cr3tWord" not in repr(vars(processes))


def test_an_overwritten_title(start: Starter) -> None:
    child = start(
        "bash", "-c", "exec -a 'shop: worker 3' sleep 63", wait_for="shop: worker 3\x0063"
    )
    script = start(
        "bash",
        "-c",
        f"exec -a 'shop: worker 4' {sys.executable} -c 'input()'",
        wait_for="shop: worker 4\0-c",
    )

    assert resolve(child.pid).service == "sleep"
    assert resolve(child.pid).command == ("shop: worker 3", "63")
    assert resolve(script.pid).service == "shop"


def test_exec_and_renaming_are_found_by_refresh(start: Starter) -> None:
    child = start("bash", "-c", "read x; exec sleep 64")
    others = [start("sleep", "61") for _ in range(5)]
    processes = Processes()
    for process in (child, *others):
        resolve(process.pid, processes)
    assert resolve(child.pid, processes).service == "bash"
    assert processes.refresh(100) == []

    assert child.stdin
    child.stdin.write(b"go\n")
    child.stdin.flush()
    while Path(f"/proc/{child.pid}/comm").read_text() != "sleep\n":
        time.sleep(0.01)

    assert resolve(child.pid, processes).service == "bash"
    changed = [p for _ in range(3) for p in processes.refresh(2)]
    assert [(p.pid, p.service) for p in changed] == [(child.pid, "sleep")]
    assert resolve(child.pid, processes).service == "sleep"


def test_refresh_leaves_the_dead_as_they_were(start: Starter) -> None:
    child = start("sleep", "61")
    processes = Processes()
    alive = resolve(child.pid, processes)

    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert processes.refresh() == []  # a zombie
    child.wait()
    assert processes.refresh() == []

    assert processes.resolve(alive.pid, alive.start) == alive


def test_kernel_threads() -> None:
    thread = next(
        int(path.name)
        for path in Path("/proc").glob("[0-9]*")
        if (path / "comm").read_text().startswith("kworker/")
    )

    process = resolve(thread)

    assert (process.service, process.executable) == (KERNEL, "kworker")


def test_what_the_kernel_kept_of_a_short_life(record_dtype: np.dtype[Any]) -> None:
    record = np.zeros((), record_dtype)[()]
    record["uid"], record["parent"], record["cgroup_id"] = 65534, os.getpid(), 77
    record["name"], record["executable"] = b"python3", b"python3.11"
    record["cgroup"] = b"shop.service"
    command = b"python3\0-u\0/srv/job.py\0--token\0S3cr3tWord\0"
    record["command"], record["command_length"] = command, len(command)

    process = Processes().resolve(4_000_000, 5, record)

    assert process.service == "shop"
    assert process.unit == "shop.service"
    assert (process.name, process.executable, process.path) == ("python3", "python3.11", "")
    assert process.command == ("python3", "-u", "/srv/job.py", "--token", "***")
    assert (process.user, process.parent) == (user_name(65534), os.getpid())


def test_half_an_argument_of_a_short_life_is_left_out(record_dtype: np.dtype[Any]) -> None:
    record = np.zeros((), record_dtype)[()]
    record["executable"] = b"curl"
    record["command"] = (b"curl\0" + b"x" * 230 + b"\0https://a:S3cr3tWord")[:256]
    record["command_length"] = 256

    process = Processes().resolve(4_000_000, 5, record)

    assert process.command == ("curl", "x" * 230, "...")
    assert process.service == "curl"


def test_the_cgroup_of_a_short_life_is_that_of_its_parent(
    start: Starter, record_dtype: np.dtype[Any]
) -> None:
    parent = start("sleep", "61")
    alive = resolve(parent.pid)
    record = np.zeros((), record_dtype)[()]
    record["parent"], record["cgroup_id"] = parent.pid, 77
    record["cgroup"] = alive.cgroup.rpartition("/")[2].encode()

    assert Processes().resolve(4_000_000, 5, record).cgroup == alive.cgroup


def test_a_zombie_is_what_the_kernel_kept(start: Starter, record_dtype: np.dtype[Any]) -> None:
    child = start("sleep", "61")
    started = procfs.process_start(child.pid)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    record = np.zeros((), record_dtype)[()]
    record["executable"], record["name"] = b"sleep", b"sleep"
    record["command"], record["command_length"] = b"sleep\x0061\0", 9

    assert started is not None
    assert Processes().resolve(child.pid, started, record).command == ("sleep", "61")


def test_known_processes_are_kept_and_bounded(start: Starter) -> None:
    child = start("sleep", "61")
    processes = Processes(capacity=2)

    first = resolve(child.pid, processes)
    assert resolve(child.pid, processes) is first
    for pid in (1, 2):
        processes.resolve(pid, 1)
    assert (len(processes), processes.evicted) == (2, 1)
    assert resolve(child.pid, processes) is not first

    processes.forget(child.pid, first.start)
    assert len(processes) == 1


def test_rules(start: Starter) -> None:
    child = start("sleep", "61")
    processes = Processes([Rule({"executable": "*/sleep", "command": "* 61"}, "nap {user}")])

    assert resolve(child.pid, processes).service == f"nap {ps(child.pid, 'ruser')}"


def test_ten_thousand_processes_are_quick(start: Starter) -> None:
    children = [start("sleep", "61") for _ in range(20)]
    processes = Processes()
    keys = [(child.pid, procfs.process_start(child.pid) or 0) for child in children]
    begin = time.process_time()
    rounds = 25

    for _ in range(rounds):
        for key in keys:
            processes.resolve(*key)
            processes.forget(*key)

    # 60 µs each on the machine this was written on; ten times that is still 6 s for 10,000.
    assert (time.process_time() - begin) / (rounds * len(keys)) < 600e-6


@pytest.mark.server
def test_a_container(podman: Podman) -> None:
    container, pid = podman.start("kernob-shop", "/bin/busybox", "sleep", "60")

    process = resolve(pid, Processes(containers=Containers(storage=[podman.storage])))

    assert process.container
    assert process.container.id == container
    assert process.service == process.container.name == "kernob-shop"
    assert process.container.image == "localhost/kernob-test:1"
    assert container in process.cgroup
    assert process.executable == "busybox"


@pytest.mark.live
def test_a_process_that_lives_five_milliseconds() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        port = receiver.getsockname()[1]
        with contextlib.closing(KernelFlows(Network())) as source:
            script = f"echo S3cr3tWord >/dev/udp/127.0.0.1/{port}"
            child = subprocess.Popen(["bash", "-c", script, "shop", "--password", "S3cr3tWord"])
            child.wait()
            keys = source.read().keys
            start = int(keys["start"][keys["pid"] == child.pid][0])
            record = source.record(child.pid, start)

    process = Processes().resolve(child.pid, start, record)

    assert process.name == process.executable == "bash"
    assert process.parent == os.getpid()
    assert process.command == ("bash", "-c", script, "shop", "--password", "***")
    assert process.user == user_name(os.getuid())
