"""Snapshots out as OTLP, through OpenTelemetry's own exporters.

The sender keeps cumulative snapshots in a bounded queue and makes deltas only when it sends,
against what the collector last acknowledged. So a collector that is down, and even a snapshot that
had to be dropped, costs resolution and never a byte: the next delta spans the gap. (Only a series
that comes and goes within dropped snapshots is never seen: a process that lived so short. Its
bytes are in its service's totals.) Where only the answer is lost, what had arrived is sent again:
OTLP delivers at least once, and a delta then counts twice; a cumulative value never does.

What opentelemetry-exporter-otlp 1.45.2 does by itself, and what is done here about it:

- One `export()` tries up to six times within its timeout, 1, 2, 4... s apart, where a retry
  makes sense. The sender adds the rounds after that, up to `BACKOFF_MAX` apart. `shutdown()` ends
  the pause between two tries, not a request on its way (gRPC: both).
- It only says success or failure; why stands in its log. The sender reads that log, and keeps it
  from the user's: one line at each change of state is enough.
- Over HTTP it takes redirects for success, doesn't look at `partial_success`, and lets the
  variable REQUESTS_CA_BUNDLE overrule its certificate. The HTTP session it is given here sees to
  all three. gRPC has no such place, so there `rejected` stays 0.
- What the collector refused for good shows only in HTTP's status. Over gRPC it is tried again
  until it is pushed out of the queue, and counted.
- Timeouts in the environment it takes for seconds, where the specification has milliseconds;
  `none` as compression over gRPC it refuses; a certificate that can't be read it ignores (gRPC) or
  finds out at each request (HTTP). `otlp_settings` reads these variables, by the specification.
- `max_export_batch_size` sends a batch again that was acknowledged if a later one fails, which
  would count deltas twice. Snapshots are split here instead, each part acknowledged on its own.

OpenTelemetry's exporters are imported when a sender starts: HTTP takes 16 MiB of memory, gRPC 22.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from kernob.telemetry.model import Kind, Points, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData

    from kernob.telemetry.otlp_settings import Settings

PART: Final = 2000
"""Points in one request at most: well under gRPC's usual limit of 4 MiB a message."""
BACKOFF_MAX: Final = 30.0
"""Seconds between two rounds at most."""
ERROR_LENGTH: Final = 500
"""Characters kept of the last error."""

_ENDPOINTS: Final = {
    "http/protobuf": "http://localhost:4318/v1/metrics",
    "grpc": "http://localhost:4317",
}
_LOGGERS: Final = {
    "http/protobuf": "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    "grpc": "opentelemetry.exporter.otlp.proto.grpc.exporter",
}
_DELTA: Final = {
    "cumulative": frozenset[Kind](),
    "delta": frozenset({Kind.COUNTER, Kind.HISTOGRAM}),
    "lowmemory": frozenset({Kind.HISTOGRAM}),
}
_RETRYABLE: Final = frozenset({429, 502, 503, 504})
"""HTTP statuses after which a client tries again (OTLP 1.5, "Failures")."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class State:
    """How sending goes.

    Attributes:
        queued: snapshots that wait.
        sent: snapshots acknowledged.
        dropped: snapshots given up: the queue was full, or the collector refused them for good.
        failed: rounds that failed.
        rejected: points the collector said it didn't take (HTTP only).
        failing: the last round failed.
        last_error: why a round last failed; empty if none has.
        delay: seconds from the snapshot that was acknowledged last to its acknowledgement; None if
            none was.
        last_success: nanoseconds since the Unix epoch; 0 if nothing was acknowledged yet.
    """

    queued: int = 0
    sent: int = 0
    dropped: int = 0
    failed: int = 0
    rejected: int = 0
    failing: bool = False
    last_error: str = ""
    delay: float | None = None
    last_success: int = 0


class _Exporter(Protocol):
    def export(self, metrics_data: MetricsData) -> MetricExportResult: ...
    def shutdown(self) -> None: ...


@dataclass(slots=True)
class _Pending:
    snapshot: Snapshot
    parts: deque[Snapshot] | None = None
    """What of it still has to arrive; None as long as nothing was tried."""


class Sender:
    """Sends snapshots from a thread of its own, in order, each until it is acknowledged."""

    def __init__(self, settings: Settings) -> None:
        """Starts the thread; nothing is sent before the first `offer`."""
        from kernob.telemetry import otlp_data  # noqa: PLC0415

        self._settings = settings
        self._state = State()
        self._lock = threading.Condition()
        self._queue: deque[_Pending] = deque()
        self._sending = False
        self._closing = threading.Event()
        self._aborted = False
        self._retrying = False
        self._status = 0
        self._error = ""
        self._metrics_data = otlp_data.metrics_data
        self._deltas = otlp_data.Deltas(_DELTA[settings.temporality])
        self._exporter = _exporter(replace(settings, endpoint=self.endpoint), self._answered)
        self._thread = threading.Thread(target=self._run, name="kernob-otlp", daemon=True)
        self._log_reader = _LogReader(self._thread, self._heard)
        logger = logging.getLogger(_LOGGERS[settings.protocol])
        logger.propagate = False
        logger.addHandler(self._log_reader)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        """Where it sends."""
        return self._settings.endpoint or _ENDPOINTS[self._settings.protocol]

    @property
    def state(self) -> State:
        """How sending goes, at this moment."""
        with self._lock:
            return replace(self._state, queued=len(self._queue))

    def offer(self, snapshot: Snapshot) -> None:
        """Queues `snapshot`; never waits. If the queue is full its oldest snapshot is dropped."""
        with self._lock:
            if len(self._queue) >= max(2, self._settings.queue):
                # Not one on its way: it may arrive, and would count as sent and as dropped.
                del self._queue[int(self._sending)]
                self._count(dropped=1)
            self._queue.append(_Pending(snapshot))
            self._lock.notify()

    def close(self, deadline: float) -> None:
        """Sends what waits, and ends the thread, within `deadline` seconds.

        A collector that is down gets one more try; what isn't sent then stays `state.queued`.
        """
        end = time.monotonic() + deadline
        self._closing.set()
        with self._lock:
            self._lock.notify()
        if self._retrying:
            self._abort()
        self._thread.join(max(0.0, end - time.monotonic()))
        self._abort()
        # A request on its way over HTTP can't be ended; it may outlive this as a daemon thread.
        self._thread.join(0.1)
        logging.getLogger(_LOGGERS[self._settings.protocol]).removeHandler(self._log_reader)

    def _run(self) -> None:
        backoff = 1.0
        while pending := self._next():
            if self._send(pending):
                backoff = 1.0
            elif self._closing.is_set():
                return
            else:
                self._closing.wait(backoff)
                backoff = min(2 * backoff, BACKOFF_MAX)

    def _next(self) -> _Pending | None:
        """Returns the oldest snapshot, once there is one; None if there is no more to come."""
        with self._lock:
            while not self._queue:
                if self._closing.is_set():
                    return None
                self._lock.wait()
            self._sending = True
            return self._queue[0]

    def _send(self, pending: _Pending) -> bool:
        """Sends what is left of a snapshot; returns whether it is done with."""
        if pending.parts is None:
            pending.parts = deque(_parts(pending.snapshot))
        arrived = True
        while pending.parts and (arrived := self._export(pending.parts[0])):
            self._deltas.acknowledge(pending.parts.popleft())
        if arrived:
            self._deltas.forget(pending.snapshot)
        refused = not arrived and self._status != 0 and self._status not in _RETRYABLE
        with self._lock:
            self._sending = False
            if arrived or refused:
                self._queue.popleft()
            failed_before = self._state.failing
            if arrived:
                now = time.time_ns()
                # A clock that is set meanwhile must not make it negative.
                delay = max(0, now - pending.snapshot.time) / 1e9
                self._state = replace(self._state, failing=False, delay=delay, last_success=now)
                self._count(sent=1)
            else:
                error = self._error or self._state.last_error
                self._state = replace(self._state, failing=True, last_error=error)
                self._count(failed=1, dropped=int(refused))
        if failed_before and arrived:
            _log.info("OTLP: the collector takes what is sent again")
        elif not failed_before and not arrived:
            _log.warning("OTLP: can't send (said once until it works again): %s", self._error)
        return arrived or refused

    def _export(self, part: Snapshot) -> bool:
        """Sends one request, with the exporter's own retries; returns whether it arrived."""
        self._status = 0
        self._error = ""
        try:
            result = self._exporter.export(self._metrics_data(part, self._deltas))
        except Exception as error:  # noqa: BLE001
            # gRPC's exporter lets errors through, its own among them when it is shut down.
            self._error = f"{type(error).__name__}: {error}"[:ERROR_LENGTH]
            return False
        finally:
            self._retrying = False
        return result.name == "SUCCESS"

    def _answered(self, status: int, rejected: int, message: str) -> None:
        """Takes how a request over HTTP ended (see `otlp_http.exporter`)."""
        self._status = status
        self._error = message[:ERROR_LENGTH]
        if rejected:
            with self._lock:
                self._state = replace(self._state, last_error=self._error)
                self._count(rejected=rejected)

    def _heard(self, message: str) -> None:
        """Takes what the exporter says in its log: the first line of a request says why."""
        self._error = self._error or message[:ERROR_LENGTH]
        self._retrying = True
        if self._closing.is_set():
            self._abort()

    def _abort(self) -> None:
        if not self._aborted:
            self._aborted = True
            self._exporter.shutdown()

    def _count(self, **more: int) -> None:
        counts = {name: getattr(self._state, name) + count for name, count in more.items()}
        self._state = replace(self._state, **counts)


class _LogReader(logging.Handler):
    """Passes on what the exporter logs in one thread."""

    def __init__(self, thread: threading.Thread, heard: Callable[[str], None]) -> None:
        super().__init__()
        self._thread = thread
        self._heard = heard

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread.ident:
            self._heard(record.getMessage())


def _parts(snapshot: Snapshot) -> Iterator[Snapshot]:
    """Yields `snapshot` in parts of at most `PART` points."""
    part: list[Points] = []
    room = PART
    for points in snapshot.points:
        at = 0
        while at < len(points.series):
            some = slice(at, at + room)
            part.append(Points(points.metric, points.series[some], points.values[some]))
            at += len(part[-1].series)
            room -= len(part[-1].series)
            if not room:
                yield Snapshot(snapshot.time, tuple(part))
                part, room = [], PART
    if part:
        yield Snapshot(snapshot.time, tuple(part))


def _exporter(settings: Settings, answered: Callable[[int, int, str], None]) -> _Exporter:
    if settings.protocol == "grpc":
        from kernob.telemetry import otlp_grpc  # noqa: PLC0415

        return otlp_grpc.exporter(settings)
    from kernob.telemetry import otlp_http  # noqa: PLC0415

    return otlp_http.exporter(settings, answered)
