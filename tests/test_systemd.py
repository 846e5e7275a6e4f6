"""The units, as systemd itself reads them, and (slow) as it runs them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernob.systemd import PARTS, unit
from servers import debian_server, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WORST_EXPOSURE = {"agent": 2.7, "server": 1.4, "pages": 1.4}
"""0 is a program that can do nothing, 10 one that may do everything (systemd-analyze security)."""


def write(part: str, folder: Path, *command: str) -> Path:
    file = folder / f"kernob-{part}.service"
    file.write_text(unit(part, command or [sys.executable, "-m", "kernob", part]))
    return file


@pytest.mark.server
@pytest.mark.parametrize("part", PARTS)
def test_systemd_finds_nothing_wrong(part: str, tmp_path: Path) -> None:
    analyze = debian_server("systemd-analyze")
    file = write(part, tmp_path)

    done = subprocess.run([analyze, "verify", file], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.server
@pytest.mark.parametrize("part", PARTS)
def test_it_may_do_little(part: str, tmp_path: Path) -> None:
    analyze = debian_server("systemd-analyze")
    file = write(part, tmp_path)

    text = subprocess.run(
        [analyze, "security", "--offline=yes", file], capture_output=True, text=True, check=True
    ).stdout

    exposure = re.search(r"Overall exposure level for .*: ([0-9.]+)", text)
    assert exposure, text
    assert float(exposure[1]) <= WORST_EXPOSURE[part]


def test_what_means_something_to_systemd_is_escaped() -> None:
    text = unit("server", ["/opt/a b/python", "-m", "kernob", "--config", "/etc/50%$HOME.yaml"])

    assert "\nExecStart='/opt/a b/python' -m kernob --config '/etc/50%%$$HOME.yaml'\n" in text


def test_the_command_line_prints_it(tmp_path: Path) -> None:
    config = tmp_path / "kernob.yaml"

    text = subprocess.check_output(
        [sys.executable, "-m", "kernob", "systemd", "agent", "--config", config], text=True
    )

    assert text == unit("agent", [sys.executable, "-m", "kernob", "agent", "--config", str(config)])


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """A Debian with systemd of its own in a container; what is called runs a command in it."""
    for tool in ("podman", "debootstrap", "runc"):
        debian_server(tool)
    root = tmp_path / "root"
    packages = "systemd,systemd-sysv,dbus,procps,libbpf1,python3,curl"
    subprocess.run(
        ["debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", root],
        check=True,
        capture_output=True,
    )
    # What runs there is this very checkout: where it and its interpreter are, all may look.
    all_places = {Path(__file__).parents[1], Path(sys.prefix), Path(sys.base_prefix)}
    places = {p for p in all_places if p != Path("/usr") and not all_places & set(p.parents)}
    mounts = [f"--volume={place}:{place}:ro" for place in sorted(places)]
    for place in places:
        (root / str(place).lstrip("/")).mkdir(parents=True, exist_ok=True)
    (root / "root").chmod(0o755)
    for part in PARTS:
        write(part, root / "etc/systemd/system")
    (root / "etc/kernob").mkdir()
    (root / "etc/kernob/kernob.yaml").write_text(
        "otlp:\n  endpoint: http://127.0.0.1:4318\n  interval: 1s\n"
    )
    # podman takes no path that is longer than 50 characters.
    short = tempfile.mkdtemp(prefix="kernob-")
    podman = [
        *("podman", "--root", f"{short}/root", "--runroot", f"{short}/run"),
        *(
            "--cgroup-manager=cgroupfs",
            "--storage-driver=overlay",
            "--events-backend=file",
            "--runtime=runc",
        ),
    ]
    name = f"kernob-{tmp_path.name}"
    limits = ("--ulimit=nofile=1024:20000", "--ulimit=nproc=20000:20000")
    start = ("run", "--detach", "--name", name, "--privileged", "--systemd=always")
    subprocess.run(
        [*podman, *start, *limits, "--cgroupns=host", "--network=none", *mounts, "--rootfs", root,
         "/sbin/init"],
        check=True, capture_output=True,
    )  # fmt: skip

    def call(*command: str) -> str:
        done = subprocess.run(
            [*podman, "exec", name, *command], capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr

    yield call
    subprocess.run([*podman, "rm", "--force", "--time=3", name], check=True, capture_output=True)
    shutil.rmtree(root)
    shutil.rmtree(short)


@pytest.mark.slow
@pytest.mark.live
@pytest.mark.server
@pytest.mark.timeout(300)
def test_systemd_runs_them_all(machine: Callable[..., str]) -> None:
    wait_until(lambda: "running" in machine("systemctl", "is-system-running"), "systemd", 30)
    names = [f"kernob-{part}" for part in PARTS]

    machine("systemctl", "start", *names)

    def metrics() -> str:
        return machine("curl", "-s", "127.0.0.1:9464/metrics")

    wait_until(
        lambda: re.search(r'agent_exports_total\{kernob_outcome="sent",.*\} [1-9]', metrics()),
        lambda: machine("journalctl", "--no-pager"),
        30,
    )
    parts = dict(re.findall(r'kernob_agent_part\{kernob_part="([^"]*)".*\} (\d)', metrics()))
    assert parts == {
        "network": "1",
        "counters in the kernel": "1",
        "datagram peers": "1",
        "earlier connections": "1",
        "program run times": "0",
    }
    table = json.loads(machine("curl", "-s", "127.0.0.1:9464/api/network"))
    assert "kernob-server" in {row["service"] for row in table["rows"]}
    assert machine("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "127.0.0.1:8420") == "200"
    machine("systemctl", "stop", *names)
    for name in names:
        state = machine("systemctl", "show", "-P", "Result", "-P", "ActiveState", name)
        assert state.split() in (["success", "inactive"], ["inactive", "success"])
