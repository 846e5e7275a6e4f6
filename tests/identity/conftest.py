"""A real container engine, with its state in a directory of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUSYBOX = "/bin/busybox"
IMAGE = "localhost/kernob-test:1"


@dataclass(frozen=True)
class Podman:
    """podman with runc and cgroupfs: works with every cgroup layout."""

    storage: Path
    run: Path

    def __call__(self, *arguments: str) -> str:
        """Returns what the command printed."""
        return subprocess.run(
            [
                "podman",
                *("--root", str(self.storage), "--runroot", str(self.run)),
                *("--cgroup-manager=cgroupfs", "--events-backend=file", "--runtime=runc"),
                "--storage-driver=vfs",  # overlay leaves its directory mounted on itself
                *arguments,
            ],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout.strip()

    def start(self, name: str, *command: str) -> tuple[str, int]:
        """Starts a container; returns its id and the pid of its first process."""
        limits = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000", "--network=none")
        container = self("run", "--detach", f"--name={name}", *limits, IMAGE, *command)
        return container, json.loads(self("inspect", name))[0]["State"]["Pid"]


@pytest.fixture(scope="session")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    for needed in ("podman", "runc", BUSYBOX):
        if not shutil.which(needed):
            pytest.skip(f"no {needed}: install Debian's podman, runc and busybox-static")
    if os.geteuid():
        pytest.skip("containers with cgroups of their own need root")
    directory = tmp_path_factory.mktemp("podman")
    engine = Podman(directory / "storage", directory / "run")
    with tarfile.open(directory / "root.tar", "w") as root:
        root.add(BUSYBOX, "bin/busybox")
    engine("import", "--quiet", str(directory / "root.tar"), IMAGE)
    yield engine
    engine("rm", "--all", "--force", "--time=0")
