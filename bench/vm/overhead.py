"""Overhead without noise: throughput kept on Linux 6.12, counted in instructions."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from build_bpf import compile_object

from bench.vm.machine import CACHE, MachineError, kernel_image, run

HERE: Final = Path(__file__).parent
PROJECT: Final = HERE.parents[1]
STORED: Final = HERE / "overhead.json"
RELEASE: Final = "6.12"
ROUNDS: Final = 3
GUEST_PYTHON: Final = "3.11"
GUEST_PLATFORMS: Final = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
SLACK: Final = 0.02
"""How much less than the stored share may be kept."""
VARIANTS: Final = {
    "nothing": "nothing",
    "empty programs": "empty.bpf.o",
    "byte counters": "kernob/bpf/network.bpf.o",
    "agent": "agent",
}
"""What is attached, by its name in the table: see measure.py."""


def measure() -> dict[str, Any]:
    """Boots the guest and returns its kernel, the share of throughput kept, and the spread.

    `kept` is by workload and variant, the mean of all rounds over that of `nothing`; `spread` is
    by workload: largest less smallest rate of `nothing`, as a share of their mean.

    Raises:
        MachineError: the guest can't be had, or something failed in there.
    """
    with tempfile.TemporaryDirectory(prefix="kernob-bench-") as scratch:
        empty = Path(scratch, "empty.bpf.c")
        empty.write_text((HERE / "empty.bpf.c").read_text())
        pairs = " ".join(f"'{name}={what}'" for name, what in VARIANTS.items())
        outcome = run(
            RELEASE,
            f"#!/bin/bash\nexport PYTHONPATH=site\nexec python3 measure.py {ROUNDS} {pairs}\n",
            {
                "load.py": HERE / "load.py",
                "measure.py": HERE / "measure.py",
                "empty.bpf.o": compile_object(empty),
                "kernob": PROJECT / "src" / "kernob",
                "site": guest_packages(),
            },
            counted=True,
        )
    if outcome.status:
        raise MachineError(f"measuring failed in the guest:\n{outcome.console}")
    rates = json.loads(outcome.files["rates.json"])
    kept = {
        workload: {
            variant: round(fmean(rounds) / fmean(by_variant["nothing"]), 4)
            for variant, rounds in by_variant.items()
            if variant != "nothing"
        }
        for workload, by_variant in rates.items()
    }
    spread = {
        workload: round((max(each) - min(each)) / fmean(each), 4)
        for workload, by_variant in rates.items()
        for each in [by_variant["nothing"]]
    }
    kernel = kernel_image(RELEASE).name.removeprefix("vmlinuz-")
    return {"kernel": kernel, "kept": kept, "spread": spread}


def regressions(measured: dict[str, Any], stored: dict[str, Any]) -> list[str]:
    """Returns a line for each share that fell by more than `SLACK` below the stored one."""
    return [
        f"{workload}, {variant}: {found:.2%} kept, stored {stored['kept'][workload][variant]:.2%}"
        for workload, by_variant in measured["kept"].items()
        for variant, found in by_variant.items()
        if found < stored["kept"][workload][variant] - SLACK
    ]


def guest_packages() -> Path:
    """Returns a directory with what Kernob depends on, for the guest's Python."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"]
    digest = hashlib.sha256("\n".join(wanted).encode()).hexdigest()[:12]
    site = CACHE / f"packages-{digest}"
    if not site.exists():
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            done = subprocess.run(
                [
                    *(sys.executable, "-m", "pip", "install", "--quiet"),
                    *("--only-binary=:all:", "--python-version", GUEST_PYTHON),
                    *(f"--platform={platform}" for platform in GUEST_PLATFORMS),
                    *("--target", f"{scratch}/site", *wanted),
                ],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise MachineError(f"pip failed: {done.stderr[-2000:]}")
            Path(scratch, "site").rename(site)
    return site
