"""Overhead: what nginx and Redis lose while something is attached, and what it uses and sees."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from bench import host, servers, tools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bench.servers import Run, Server
    from bench.tools import Tool

RATE: Final = 10_000
"""Requests per second of the runs at a fixed rate."""


@dataclass(frozen=True)
class Case:
    """A workload, on a server of its own so that what is seen of it can be told apart."""

    name: str
    server: Server
    load: Callable[[float], Run]


@dataclass(frozen=True)
class Sample:
    """One run of one case with one tool attached.

    Attributes:
        server_cpu: microseconds of CPU that the server used for a request: with what hangs on its
            calls, and steadier than throughput where others use the same cores.
        cpu: seconds of CPU that the tool used meanwhile, per second; None if it has no process.

    """

    run: Run
    server_cpu: float
    cpu: float | None


@dataclass(frozen=True)
class Visit:
    """One tool attached once, all cases run.

    Attributes:
        seen: bytes by case, of all that the case moved: at the server's end, at the client's.

    """

    samples: dict[str, Sample]
    seen: dict[str, tuple[float, float]]
    idle_cpu: float | None
    resident: float | None


@contextlib.contextmanager
def all_cases(scratch: Path) -> Iterator[list[Case]]:
    """Starts a server for each case."""
    client = host.compile_c("client", scratch)
    with contextlib.ExitStack() as stack:

        def pair(name: str, start: Callable[[], Any], pipeline: int) -> Iterator[Case]:
            saturated, paced = (stack.enter_context(start()) for _ in range(2))
            yield Case(f"{name}, saturated", saturated, saturated.saturate)
            yield Case(
                f"{name}, {RATE:,}/s",
                paced,
                lambda seconds: servers.pace(client, paced, RATE, seconds, pipeline),
            )

        yield [
            *pair("nginx", lambda: servers.nginx(scratch), 1),
            *pair("redis -P 1", lambda: servers.redis(scratch, 1), 1),
            *pair("redis -P 16", lambda: servers.redis(scratch, 16), 16),
        ]


def visit(tool: Tool, cases: list[Case], seconds: float) -> Visit:
    """Runs all cases with a tool that is attached."""
    time.sleep(tools.SETTLE_SECONDS if tool.pid else 0)
    idle_cpu = _cpu_during(tool, lambda: time.sleep(seconds))
    samples = {case.name: _sample(tool, case, seconds) for case in cases}
    time.sleep(tool.delay)
    seen = {}
    for case in cases:
        run = samples[case.name].run
        counted = tool.seen(case.server.port, (case.server.pid, run.pid))
        if counted is not None:
            seen[case.name] = (counted[0] / run.moved[0], counted[1] / run.moved[1])
    resident = host.resident_mib(tool.pid) if tool.pid else None
    return Visit(samples, seen, idle_cpu, resident)


def _sample(tool: Tool, case: Case, seconds: float) -> Sample:
    runs: list[Run] = []
    before = host.cpu_seconds(case.server.pid)
    cpu = _cpu_during(tool, lambda: runs.append(case.load(seconds)))
    server_cpu = (host.cpu_seconds(case.server.pid) - before) / runs[0].requests * 1e6
    return Sample(runs[0], server_cpu, cpu)


def _cpu_during(tool: Tool, work: Callable[[], None]) -> float | None:
    """Returns the share of a core that the tool's process used while `work` ran."""
    if tool.pid is None:
        work()
        return None
    begin, before = time.monotonic(), host.cpu_seconds(tool.pid)
    work()
    return (host.cpu_seconds(tool.pid) - before) / (time.monotonic() - begin)


def measure(scratch: Path, *, quick: bool) -> dict[str, list[dict[str, Any]]]:
    """Returns two tables: each case with each tool, and each tool by itself.

    Ratios are medians over rounds of the ratio to `nothing` in the same round.
    """
    rounds, seconds = (1, 1.0) if quick else (5, 2.0)
    by_name = tools.of(scratch)
    visits: dict[str, list[Visit]] = defaultdict(list)
    with all_cases(scratch) as cases:
        for case in cases:
            case.load(1.0)  # Memory is touched, and Redis's speed known.
        for number in range(rounds):
            names = list(by_name)
            # Who comes first differs from round to round.
            for name in names[number % len(names) :] + names[: number % len(names)]:
                with by_name[name]() as tool:
                    visits[name].append(visit(tool, cases, seconds))
        return {
            "overhead": [_row(case.name, name, visits) for case in cases for name in by_name],
            "tools": [
                _tool_row(name, visits[name]) for name in by_name if visits[name][0].resident
            ],
        }


def _row(case: str, tool: str, visits: dict[str, list[Visit]]) -> dict[str, Any]:
    own = [v.samples[case] for v in visits[tool]]
    baseline = [v.samples[case] for v in visits["nothing"]]
    seen = [v.seen[case] for v in visits[tool] if case in v.seen]
    cpu = [sample.cpu for sample in own if sample.cpu is not None]
    return {
        "case": case,
        "with": tool,
        "requests_per_s": median(s.run.rate for s in own),
        "kept_share": median(s.run.rate / b.run.rate for s, b in zip(own, baseline, strict=True)),
        "server_us": median(s.server_cpu for s in own),
        "server_us_ratio": median(
            s.server_cpu / b.server_cpu for s, b in zip(own, baseline, strict=True)
        ),
        "p99_us": median(s.run.p99 for s in own),
        "p99_ratio": median(s.run.p99 / b.run.p99 for s, b in zip(own, baseline, strict=True)),
        "cpu_share": median(cpu) if cpu else None,
        "seen_server_share": median(s for s, _ in seen) if seen else None,
        "seen_client_share": median(c for _, c in seen) if seen else None,
    }


def _tool_row(tool: str, visits: list[Visit]) -> dict[str, Any]:
    """The tool's CPU at no load, at 10,000 requests/s and at saturation; its memory."""

    def cpu(cases: str) -> float:
        return median(s.cpu or 0 for v in visits for n, s in v.samples.items() if n.endswith(cases))

    return {
        "tool": tool,
        "idle_cpu_share": median(v.idle_cpu or 0 for v in visits),
        f"at_{RATE}_per_s_cpu_share": cpu(f"{RATE:,}/s"),
        "saturated_cpu_share": cpu("saturated"),
        "resident_mib": median(v.resident or 0 for v in visits),
    }
