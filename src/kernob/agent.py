"""The agent: collects every interval, keeps the latest snapshot, serves it and sends it on.

One thread collects and decides; the listener and the sender have threads of their own and only
read the latest snapshot, which is replaced whole.
"""

from __future__ import annotations

import ctypes
import fcntl
import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from kernob import requests_table
from kernob.collector import Collector
from kernob.errors import AlreadyRunningError, KernelError
from kernob.kernel import capabilities
from kernob.kernel.statistics import RunTime
from kernob.signals.itself import Itself
from kernob.telemetry import prometheus
from kernob.telemetry.http import Listener, Request, Response
from kernob.telemetry.model import Points, SeriesLimit, Snapshot, attributes

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from kernob.config import Loaded
    from kernob.telemetry.otlp import Sender, State
    from kernob.telemetry.spans import Span

log = logging.getLogger(__name__)

KEPT_CAPABILITIES: Final = {
    "CAP_BPF",  # maps and iterators, where unprivileged BPF is off (before Linux 5.17)
    "CAP_SYS_PTRACE",  # /proc/PID/exe of other users' processes
    "CAP_DAC_READ_SEARCH",  # names of other users' containers
}
_M_TRIM_THRESHOLD: Final = -1  # malloc.h
CLOCK_JUMP_SECONDS: Final = 2.0
FLUSH_SECONDS: Final = 5.0
TIMING_SECONDS: Final = 5.0
"""How long the kernel times its programs after the start; each run costs 20 ns more meanwhile."""
LOCK: Final = "kernob.lock"
"""In systemd's RUNTIME_DIRECTORY if that is set, else in /run/kernob: with the unit that is one."""


class Agent:
    """Everything that runs between start and stop.

    Raises:
        AlreadyRunningError: another agent counts on this machine.
        ListenError: the address for Prometheus can't be had.
        KernelError: eBPF was asked for and can't be had.
    """

    def __init__(self, loaded: Loaded) -> None:
        config = loaded.config
        self._config = config
        self._otlp = loaded.otlp
        self._traces = loaded.traces
        self._stop = threading.Event()
        self._lock = take_lock(Path(os.environ.get("RUNTIME_DIRECTORY", "/run/kernob")) / LOCK)
        self._listener: Listener | None = None
        if config.prometheus.enabled:
            self._listener = Listener(
                config.prometheus.listen,
                {
                    "/metrics": self._serve_metrics,
                    "/api/network": self._serve_table,
                    requests_table.SAMPLES_PATH: self._serve_requests,
                    requests_table.SERIES_PATH: self._serve_series,
                },
                token_file=config.prometheus.token_file,
                tls=config.prometheus.tls,
            )
        self._started = time.time_ns()
        self._collector = Collector(config)
        self._itself = Itself(self._collector.resource, self._started)
        self._map_bytes = self._collector.memory()
        self._parts = self._collector.parts()
        self._limits: dict[str, SeriesLimit] = {}
        self._collections = 0
        self._failures = 0
        self._collection_seconds = 0.0
        self._reading = threading.Lock()
        self._resource = attributes(self._collector.resource)
        self._sender, self._span_sender = self._make_senders()
        self._latest = Snapshot(self._started, ())
        self._latest = self._collect()

    def _make_senders(self) -> tuple[Sender[Snapshot] | None, Sender[Span] | None]:
        spans = self._traces.enabled and self._config.requests.samples_per_second > 0
        if not self._otlp.enabled and not spans:
            return None, None
        # Imported only when it is used: the exporters cost 20 MiB.
        from kernob.telemetry.otlp import metrics_sender, traces_sender  # noqa: PLC0415

        return (
            metrics_sender(self._otlp) if self._otlp.enabled else None,
            traces_sender(self._traces) if spans and self._collector.samples else None,
        )

    # -- one collection ------------------------------------------------------------------------

    def _collect(self) -> Snapshot:
        begin = time.monotonic()
        with self._reading:
            try:
                points = self._collector.collect()
            except KernelError as error:
                self._failures += 1
                if self._failures == 1:
                    log.error("a collection failed: %s", error)  # noqa: TRY400  (one line)
                points = ()
            else:
                self._offer_samples()
        limited = tuple(self._limit(p) for p in points)
        self._collection_seconds = time.monotonic() - begin
        self._collections += 1
        return Snapshot(time.time_ns(), (*limited, *self._own_points()))

    def _offer_samples(self) -> None:
        if self._span_sender:
            self._span_sender.offer(
                *(sample.span(self._resource) for sample in self._collector.new_samples)
            )

    def _limit(self, points: Points) -> Points:
        limit = self._limits.get(points.metric.name)
        if limit is None:
            limit = self._limits[points.metric.name] = SeriesLimit(
                self._config.metrics.series_limit, self._resource
            )
        return limit.apply(points)

    def _own_points(self) -> tuple[Points, ...]:
        collector = self._collector
        exports = self._sender.state if self._sender else None
        return self._itself.points(
            mode=collector.source.mode,
            parts=self._parts,
            collection_seconds=self._collection_seconds,
            collections=self._collections,
            fill=collector.fill(),
            map_bytes=self._map_bytes,
            losses={**collector.losses(), "collections_failed": self._failures},
            overflow={name: limit.overflowing for name, limit in self._limits.items()},
            program_seconds=collector.program_seconds(),
            exports={
                "sent": exports.sent, "failed": exports.failed, "dropped": exports.dropped
            } if exports else {},
            queued=exports.queued if exports else 0,
            export_delay=exports.delay if exports else None,
            unpaired=collector.requests.unpaired() if collector.requests else {},
            unseen=collector.requests.unseen() if collector.requests else {},
            samples_dropped=self._samples_dropped(),
        )  # fmt: skip

    def _samples_dropped(self) -> dict[str, int]:
        """Returns the samples that did not get where they should, by reason."""
        if self._collector.requests is None:
            return {}
        found = {"ring": self._collector.samples_dropped()}
        return found | (_not_sent(self._span_sender.state) if self._span_sender else {})

    # -- what others read ----------------------------------------------------------------------

    def _serve_metrics(self, request: Request) -> Response:
        kind, body = prometheus.render(self._latest, request.header("accept"))
        return Response(200, kind, body)

    def _serve_table(self, _request: Request) -> Response:
        with self._reading:
            table = self._collector.table()
        return Response(200, "application/json", msgspec.json.encode(table))

    def _serve_requests(self, request: Request) -> Response:
        """Answers with the latest samples; `after=N` leaves out those up to number N."""
        text = request.query.get("after", "0")
        if not text.isdecimal():
            return Response(400, "text/plain; charset=utf-8", b"after: a whole number is wanted\n")
        with self._reading:
            answer = requests_table.requests_of(
                self._collector, self._samples_dropped(), self._started, int(text)
            )
        return Response(200, "application/json", msgspec.json.encode(answer))

    def _serve_series(self, _request: Request) -> Response:
        """Answers with the histograms of all series, as of the latest snapshot."""
        latest = self._latest
        table = requests_table.series_table(self._collector, latest.points, latest.time)
        return Response(200, "application/json", msgspec.json.encode(table))

    # -- from start to stop --------------------------------------------------------------------

    def run(self) -> None:
        """Collects until SIGTERM or SIGINT, then sends what is left and detaches."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        return_freed_memory()
        # Timing programs takes a privilege that is given up below: so it is done now, not later.
        timing = None
        if self._collector.source.mode == "ebpf":
            try:
                timing = RunTime()
            except KernelError as error:
                known = "CAP_SYS_ADMIN" not in capabilities.held()
                reason = "measuring them takes CAP_SYS_ADMIN" if known else str(error)
                self._parts["program run times"] = reason
            else:
                self._parts["program run times"] = ""
        kept = capabilities.keep_only(KEPT_CAPABILITIES)
        log.debug("capabilities kept: %s", ", ".join(sorted(kept)) or "none")
        if self._listener:
            self._listener.start()
            log.info("metrics on %s/metrics", self._listener.url)
        if self._sender:
            log.info("sending to %s every %g s", self._sender.endpoint, self._otlp.interval)
        if self._span_sender:
            log.info("sending samples of requests to %s", self._span_sender.endpoint)
        log.info("%s", self._collector.source.description)
        try:
            self._loop(timing)
        finally:
            self.close()

    def _loop(self, timing: RunTime | None) -> None:
        interval, export_every = float(self._config.agent.interval), self._otlp.interval
        begin = time.monotonic()
        next_collection = begin + interval
        next_export = begin + export_every
        watch = ClockWatch()
        timed_until = time.monotonic() + TIMING_SECONDS
        while not self._stop.wait(max(0.0, next_collection - time.monotonic())):
            now = time.monotonic()
            # A machine that slept, or was too busy, skips what it missed.
            next_collection = max(next_collection + interval, now)
            jump = watch.jump()
            if jump:
                log.warning("the clock was set by %+.1f s: times in the metrics jump too", jump)
            self._latest = self._collect()
            if timing and now >= timed_until:
                timing.close()
                timing = None
            # At the collection that is nearest to its time: rounding must not skip one.
            if self._sender and now + interval / 2 >= next_export:
                self._sender.offer(self._latest)
                next_export = max(next_export + export_every, now)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        log.info("%s: stopping", signal.Signals(number).name)
        self._stop.set()

    def close(self) -> None:
        """Sends the last figures, stops listening, detaches from the kernel."""
        senders = [sender for sender in (self._sender, self._span_sender) if sender]
        if senders:
            last = self._collect()
            if self._sender:
                self._sender.offer(last)
            deadline = time.monotonic() + FLUSH_SECONDS
            for sender in senders:
                sender.close(max(0.0, deadline - time.monotonic()))
        if self._listener:
            self._listener.close()
        self._collector.close()
        os.close(self._lock)


def _not_sent(state: State) -> dict[str, int]:
    """Returns what a sender gave up, by reason."""
    return {
        "queue": state.dropped - state.refused,
        "refused": state.refused + state.rejected,
    }


class ClockWatch:
    """Notices that somebody has set the clock; sleep is not mistaken for that.

    Args:
        wall: seconds of the clock that can be set.
        steady: seconds of one that can't, and that runs on while the machine sleeps.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        self._wall = wall
        self._steady = steady
        self._offset = wall() - steady()

    def jump(self) -> float:
        """Returns by how many seconds it was set since the last call, 0 if less than two."""
        jump = self._wall() - self._steady() - self._offset
        if abs(jump) <= CLOCK_JUMP_SECONDS:
            return 0.0
        self._offset += jump
        return jump


def return_freed_memory() -> None:
    """Has glibc give freed memory back at once, as it does by itself until it first grows.

    Each scrape makes megabytes of text: with 10,000 series the agent stays at 65 MiB and not 88.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):  # musl has none, and no such habit
        library.mallopt(_M_TRIM_THRESHOLD, 128 << 10)


def take_lock(path: Path) -> int:
    """Returns an open file that holds the lock of the one agent of this machine.

    Where there can be none (no root, say) there is no lock, and the log says so.

    Raises:
        AlreadyRunningError: another process holds it.
    """
    try:
        path.parent.mkdir(mode=0o755, exist_ok=True)
        # Nobody else may open it: who can read a file can lock it.
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        log.warning("a second agent would not be noticed: %s: %s", path, error.strerror)
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(lock, 32).decode(errors="replace").strip()
        os.close(lock)
        raise AlreadyRunningError(
            f"an agent already runs here (pid {owner or 'unknown'})",
            remedy="stop it first, or look at it with: kernob top",
        ) from None
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    return lock
