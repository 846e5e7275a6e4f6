"""Runs the benchmarks: tables in the terminal, JSON in `bench/results.json`."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench import (
    host,
    ingest,
    live,
    many,
    memory,
    overhead,
    pages,
    polling,
    report,
    scale,
    startup,
    store,
)

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS: Final = host.HERE / "results.json"
BENCHMARKS: Final[dict[str, Callable[..., dict[str, list[dict[str, Any]]]]]] = {
    "overhead": overhead.measure,
    "scale": scale.measure,
    "polling": polling.measure,
    "ingest": ingest.measure,
    "store": store.measure,
    "pages": pages.measure,
    "memory": memory.measure,
    "startup": startup.measure,
    "live": live.measure,
    "fleet": many.measure,
}


def main() -> None:
    """Runs the benchmarks that were named, or all."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument(
        "--quick", action="store_true", help="one short round: noisy figures, shown and not stored"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(BENCHMARKS):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}")
    if os.geteuid():
        raise SystemExit("bench: needs root")
    if missing := host.missing():
        raise SystemExit(f"bench: {missing}")

    results = _stored()
    for name in arguments.names or BENCHMARKS:
        with tempfile.TemporaryDirectory(prefix="kernob-bench-") as scratch:
            found = BENCHMARKS[name](Path(scratch), quick=arguments.quick)
        for title, rows in found.items():
            report.show(title, rows)
        results |= found
        if not arguments.quick:
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def _stored() -> dict[str, Any]:
    """Returns the tables of earlier runs on this machine; those of another one are let go."""
    new = {"machine": host.facts()}
    old: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else new
    if old["machine"] != new["machine"]:
        host.say(f"begins anew: the stored tables are of another machine, {old['machine']}")
        return new
    return old


if __name__ == "__main__":
    main()
