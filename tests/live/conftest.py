"""Fixtures of the live tests: the workshop, what Kernob sees of it, and a second host."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.register_assert_rewrite("observer", "seen", "workshop")

from observer import Observer  # noqa: E402
from seen import Seen  # noqa: E402
from workshop import Workshop  # noqa: E402

from kernob.config import Network, Requests  # noqa: E402
from kernob.signals.network import KernelFlows  # noqa: E402
from kernob.signals.requests import KernelRequests  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

TRAFFIC = Path(__file__).parent / "traffic"


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled puppet: ready-made by `KERNOB_TRAFFIC` where there is no compiler."""
    if ready := os.environ.get("KERNOB_TRAFFIC"):
        return Path(ready)
    target = tmp_path_factory.mktemp("traffic") / "traffic"
    command = [sys.executable, "-m", "ziglang", "cc", "-O2", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(
        [*command, "-Wno-missing-field-initializers", "-o", target, *sorted(TRAFFIC.glob("*.c"))],
        check=True,
    )
    return target


@pytest.fixture
def workshop(program: Path, tmp_path: Path) -> Iterator[Workshop]:
    """Puppets that end with the test."""
    workshop = Workshop(program, tmp_path)
    yield workshop
    workshop.close()


@pytest.fixture(scope="session")
def source() -> Iterator[KernelFlows]:
    """Kernob with its default sizes; the same for most tests, since it need not be fresh."""
    source = KernelFlows(Network(), requests=True)
    yield source
    source.close()


@pytest.fixture(scope="module")
def requests_source(source: KernelFlows) -> Iterator[KernelRequests]:
    """The requests on top of it; a module's own, since this process may have so many rows."""
    requests = KernelRequests(source, Requests())
    yield requests
    requests.close()


@pytest.fixture
def requests_seen(requests_source: KernelRequests) -> Seen:
    """What Kernob has seen of requests since the test began."""
    return Seen(requests_source)


@pytest.fixture
def observer(source: KernelFlows, workshop: Workshop) -> Observer:
    """What Kernob sees of the test's processes."""
    return Observer(source, workshop)


def _has_veth() -> bool:
    # Also loads the module, where there is one.
    done = subprocess.run(
        ["ip", "link", "add", "kernob-try", "type", "veth"], check=False, capture_output=True
    )
    if done.returncode == 0:
        subprocess.run(["ip", "link", "delete", "kernob-try"], check=True)
    return b"Unknown device type" not in done.stderr


@pytest.fixture
def second_host() -> Iterator[str]:
    """A network namespace, joined to this one by a virtual cable: 10.99.0.1 here, .2 there."""
    if not shutil.which("ip"):
        pytest.skip("no ip command (Debian: iproute2)")
    if not _has_veth():
        pytest.skip("this kernel has no virtual cables (veth)")
    name = f"kernob-{os.getpid()}"
    commands = (
        f"netns add {name}",
        f"link add {name} type veth peer name kernob netns {name}",
        f"address add 10.99.0.1/24 dev {name}",
        f"link set {name} up",
        f"-n {name} address add 10.99.0.2/24 broadcast 10.99.0.255 dev kernob",
        f"-n {name} link set kernob up",
        f"-n {name} link set lo up",
    )
    try:
        for command in commands:
            subprocess.run(["ip", *command.split()], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)
        # The kernel takes its time to remove the cable's end that was in there.
        subprocess.run(["ip", "link", "delete", name], check=False, capture_output=True)
