"""Kernob as a guest gets it: its wheel, and what it depends on, as two directories."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Final

from bench.vm.machine import CACHE, MachineError

PROJECT: Final = Path(__file__).parents[2]
GUEST_PYTHON: Final = "3.11"
GUEST_PLATFORMS: Final = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
PYTHONPATH: Final = "app:site"
"""For the guest, where a job has the directories by these names."""


def kernob_files(scratch: Path) -> dict[str, Path]:
    """Returns the two directories by name, the one with Kernob's wheel made in `scratch`.

    Raises:
        MachineError: pip failed.
    """
    app = scratch / "app"
    _pip_install("--no-deps", "--no-build-isolation", "--target", str(app), str(PROJECT))
    return {"app": app, "site": dependencies()}


def dependencies() -> Path:
    """Returns the directory with Kernob's dependencies, filled once for each list of them.

    Raises:
        MachineError: pip failed.
    """
    wanted = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
    digest = hashlib.sha256("\n".join(wanted).encode()).hexdigest()[:12]
    site = CACHE / f"packages-{digest}"
    if not site.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as unfinished:
            target = Path(unfinished, "site")
            _pip_install(
                *("--only-binary=:all:", f"--python-version={GUEST_PYTHON}"),
                *(f"--platform={platform}" for platform in GUEST_PLATFORMS),
                *("--target", str(target), *wanted),
            )
            target.rename(site)
    return site


def _pip_install(*arguments: str) -> None:
    command = (sys.executable, "-m", "pip", "install", "--quiet", *arguments)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MachineError(f"pip failed: {done.stderr[-2000:]}")
