"""Overhead counted in instructions on Linux 6.12, under emulation: a table, and JSON.

`python -m bench.vm` writes the stored table, `bench/vm/overhead.json`. `python -m bench.vm --check`
leaves it as it is, and fails if Kernob now keeps two points less of the throughput than it says.
"""

from __future__ import annotations

import argparse
import json

from bench import report
from bench.vm import overhead
from kernob.errors import KernobError


def main() -> None:
    """Measures, prints, and writes or checks."""
    parser = argparse.ArgumentParser(prog="python -m bench.vm", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with the stored table")
    arguments = parser.parse_args()
    try:
        measured = overhead.measure()
    except KernobError as error:
        raise SystemExit(f"bench.vm: {error}") from error
    rows = [
        {"workload": workload}
        | {f"{name} kept{report.SHARE}": share for name, share in by_variant.items()}
        for workload, by_variant in measured["kept"].items()
    ]
    report.show(f"Throughput kept, in instructions, on {measured['kernel']}", rows)
    if not arguments.check:
        overhead.STORED.write_text(json.dumps(measured, indent=1) + "\n")
    elif lines := overhead.regressions(measured, json.loads(overhead.STORED.read_text())):
        raise SystemExit("\n".join(["bench.vm: less throughput is kept than before:", *lines]))


if __name__ == "__main__":
    main()
