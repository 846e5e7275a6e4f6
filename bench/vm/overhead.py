"""Overhead without noise: throughput kept on Linux 6.12, counted in instructions."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from statistics import median
from typing import Any, Final

from build_bpf import compile_object

from bench.vm.machine import MachineError, kernel_image, run
from bench.vm.package import PYTHONPATH, kernob_files

HERE: Final = Path(__file__).parent
STORED: Final = HERE / "overhead.json"
RELEASE: Final = "6.12"
ROUNDS: Final = 3
SLACK: Final = 0.02
"""How much less than the stored share may be kept."""
VARIANTS: Final = {
    "nothing": "nothing",
    "empty programs": "empty.bpf.o",
    "byte counters": "app/kernob/bpf/network.bpf.o",
    "agent": "agent",
}
"""What is attached, by its name in the table: see measure.py."""


def measure() -> dict[str, Any]:
    """Boots the guest and returns its kernel, the share of throughput kept, and the spread.

    `kept` is by workload and variant, the median of the rounds over that of `nothing`;
    `spread` is by workload: largest less smallest rate of `nothing`, as a share of their median.

    Raises:
        MachineError: the guest can't be had, or something failed in there.
    """
    with tempfile.TemporaryDirectory(prefix="kernob-bench-") as scratch:
        empty = Path(scratch, "empty.bpf.c")
        empty.write_text((HERE / "empty.bpf.c").read_text())
        pairs = " ".join(f"'{name}={what}'" for name, what in VARIANTS.items())
        outcome = run(
            RELEASE,
            f"#!/bin/bash\nPYTHONPATH={PYTHONPATH} exec python3 measure.py {ROUNDS} {pairs}\n",
            {
                "load.py": HERE / "load.py",
                "measure.py": HERE / "measure.py",
                "empty.bpf.o": compile_object(empty),
                **kernob_files(Path(scratch)),
            },
            counted=True,
        )
    if outcome.status:
        raise MachineError(f"measuring failed in the guest:\n{outcome.console}")
    rates = json.loads(outcome.files["rates.json"])
    kept = {
        workload: {
            variant: round(median(rounds) / median(by_variant["nothing"]), 4)
            for variant, rounds in by_variant.items()
            if variant != "nothing"
        }
        for workload, by_variant in rates.items()
    }
    spread = {
        workload: round((max(each) - min(each)) / median(each), 4)
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
