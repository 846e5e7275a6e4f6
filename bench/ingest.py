"""Ingest: points, spans and log records per second, beside a Collector that writes to a file.

Both get the same requests from the same sender, one after the other. What is given per second is
also given for two cores that do nothing else, by the CPU that a record took: the sender runs on the
same cores, and is in neither figure of CPU. All that was acknowledged is looked for in the store.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from bench import bodies, host, kernob
from kernob.config import Store as StoreSettings
from kernob.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bench.bodies import Source

HOSTS: Final = 20
WARM_UP: Final = 20_000
"""Records: all series of all hosts have been there once."""
CONNECTIONS: Final = {20_000: 4, 2_000: 16, 200: 64}
"""By records of a request: who sends little at a time is many."""
RECORDS: Final = {20_000: 600_000, 2_000: 300_000, 200: 100_000}
QUICK_SHARE: Final = 10
SOURCES: Final[dict[str, Callable[[int], Source]]] = {
    "points": partial(bodies.Points, hosts=HOSTS),
    "spans": bodies.Spans,
    "logs": bodies.Logs,
}
STEP: Final = bodies.SECOND // 10
COLLECTOR: Final = """
receivers: {{otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:{port}"}}}}}}}}
exporters: {{file: {{path: "{file}", format: proto}}}}
service:
  telemetry: {{metrics: {{level: none}}, logs: {{level: error}}}}
  pipelines:
    metrics: {{receivers: [otlp], exporters: [file]}}
    traces: {{receivers: [otlp], exporters: [file]}}
    logs: {{receivers: [otlp], exporters: [file]}}
"""


class Sent(msgspec.Struct, frozen=True):
    """What the sender says of a run; see sender.c.

    Attributes:
        requests: sent and answered.
        accepted: of them, with success.
        seconds: that it took.
        sent: bytes, with the heads of HTTP.
        p50, p99: microseconds to an answer.
        cpu: seconds that the sender used.
    """

    requests: int
    accepted: int
    seconds: float
    sent: int
    p50: int
    p99: int
    cpu: float


@dataclass(frozen=True)
class Case:
    """Requests of one kind.

    Attributes:
        first, end: nanoseconds since the epoch: all records' times are in between.
    """

    signal: str
    size: int
    zipped: bool
    records: int
    first: int
    end: int


@dataclass(frozen=True)
class Figures:
    """What a run took of the receiver.

    Attributes:
        cpu: seconds until the last answer.
        later: seconds after it: what is left to do, such as merging.
        peak: MiB resident at most.
    """

    sent: Sent
    cpu: float
    later: float
    peak: float


def measure(scratch: Path, *, quick: bool) -> dict[str, list[dict[str, Any]]]:
    """Returns a table: each signal, size and encoding, at Kernob's server and at the Collector."""
    sender = host.compile_c("sender", scratch)
    return {
        "ingest": [
            row for signal in SOURCES for row in _of_signal(signal, scratch, sender, quick=quick)
        ]
    }


def send(sender: Path, port: int, connections: int, requests: Path) -> Sent:
    """Sends all requests of a file, and returns what became of them.

    Raises:
        SystemExit: the sender failed, or not all were accepted.
    """
    command = [str(sender), str(port), str(connections), str(requests)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"bench: sender: {done.stderr}")
    sent = msgspec.json.decode(done.stdout, type=Sent)
    if sent.accepted < sent.requests:
        raise SystemExit(f"bench: {sent.requests - sent.accepted} refused: {done.stderr}")
    return sent


def _of_signal(
    signal: str, scratch: Path, sender: Path, *, quick: bool
) -> Iterator[dict[str, Any]]:
    requests = scratch / "requests"
    runs: list[tuple[Case, str, Figures]] = []
    site = kernob.Site(scratch / signal)
    with site.server() as server, _collector(scratch) as (collector, port):
        receivers = {"kernob": (server.pid, site.port), "Collector": (collector, port)}
        cases = list(_cases(signal, quick=quick))
        for number, case in enumerate(cases):
            host.say(f"ingest: {signal}, {case.size:,} a request, {_encoding(case)}")
            source = SOURCES[signal](case.size)
            made = source.bodies(case.records // case.size, case.first, STEP)
            bodies.write_requests(requests, source, made, zipped=case.zipped)
            for name, (pid, at) in receivers.items():
                figures = _run(pid, partial(send, sender, at, CONNECTIONS[case.size], requests))
                if number:  # The first one only warms up.
                    runs.append((case, name, figures))
    stored = _stored(site.store, SOURCES[signal](200), cases)
    for case, name, figures in runs:
        yield _row(case, name, figures, stored[case] if name == "kernob" else None)


def _cases(signal: str, *, quick: bool) -> Iterator[Case]:
    """Yields the cases, one after the other in time; the first is for warming up."""
    first = time.time_ns() - 3600 * bodies.SECOND
    wanted = [(WARM_UP, False, WARM_UP)]
    for size, records in RECORDS.items():
        share = records // QUICK_SHARE if quick else records
        wanted += [(size, False, share), (size, True, share)]
    for size, zipped, records in wanted:
        end = first + records // size * STEP
        yield Case(signal, size, zipped, records, first, end)
        first = end


def _run(pid: int, work: Callable[[], Sent]) -> Figures:
    host.reset_peak(pid)
    before = host.cpu_seconds(pid)
    sent = work()
    cpu = host.cpu_seconds(pid) - before
    return Figures(sent, cpu, kernob.wait_until_quiet(pid), host.peak_mib(pid))


def _encoding(case: Case) -> str:
    return "gzip" if case.zipped else "none"


def _row(case: Case, name: str, figures: Figures, stored: int | None) -> dict[str, Any]:
    sent, millions = figures.sent, case.records / 1e6
    return {
        "signal": case.signal,
        "per_request": case.size,
        "encoding": _encoding(case),
        "with": name,
        "records_per_s": case.records / sent.seconds,
        "both_cores_per_s": (os.cpu_count() or 1) * case.records / figures.cpu,
        "cpu_s_per_million": figures.cpu / millions,
        "later_cpu_s_per_million": figures.later / millions,
        "sender_cpu_s_per_million": sent.cpu / millions,
        "p50_ms": sent.p50 / 1e3,
        "p99_ms": sent.p99 / 1e3,
        "peak_mib": figures.peak,
        "stored_share": None if stored is None else stored / case.records,
    }


def _stored(path: Path, source: Source, cases: list[Case]) -> dict[Case, int]:
    """Returns how many records of each case are in a store that nobody has open."""
    query = f"""
SELECT count() AS records FROM otel.{source.table}
WHERE {source.time} >= fromUnixTimestamp64Nano({{first:Int64}})
    AND {source.time} < fromUnixTimestamp64Nano({{end:Int64}})"""
    with contextlib.closing(Store.open(StoreSettings(path=path))) as store:
        reader = store.reader()
        return {
            case: reader.read(query, first=case.first, end=case.end)["records"][0].as_py()
            for case in cases
        }


@contextlib.contextmanager
def _collector(scratch: Path) -> Iterator[tuple[int, int]]:
    """Runs the Collector with a file exporter; yields its process id and port."""
    build = [str(host.HERE.parent / "tools" / "collector.sh"), "bench"]
    binary = subprocess.run(build, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    port, file = host.free_port(), scratch / "collector.out"
    settings = scratch / "collector.yaml"
    settings.write_text(COLLECTOR.format(port=port, file=file))
    process = subprocess.Popen([binary, "--config", str(settings)], text=True)
    with host.running(process):
        host.wait_for(lambda: host.listens(port), "Collector")
        yield process.pid, port
    file.unlink()
