"""Snapshots and spans out as OTLP, through OpenTelemetry's own exporters.

The sender keeps what it is offered in a bounded queue. Of metrics these are cumulative snapshots;
deltas are made only when they are sent, against what the collector last acknowledged. So a
collector that is down, and even a snapshot that had to be dropped, costs resolution and never a
byte: the next delta spans the gap. (Only a series that comes and goes within dropped snapshots is
never seen: a process that lived so short. Its bytes are in its service's totals.) Where only the
answer is lost, what had arrived is sent again: OTLP delivers at least once, and a delta then counts
twice; a cumulative value never does, and a span keeps its ids.

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
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from kernob.telemetry import otlp_exporters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from kernob.telemetry.model import Snapshot
    from kernob.telemetry.otlp_settings import Settings
    from kernob.telemetry.spans import Span

BACKOFF_MAX: Final = 30.0
"""Seconds between two rounds at most."""
ERROR_LENGTH: Final = 500
"""Characters kept of the last error."""

_RETRYABLE: Final = frozenset({429, 502, 503, 504})
"""HTTP statuses after which a client tries again (OTLP 1.5, "Failures")."""

_log = logging.getLogger(__name__)


T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class State:
    """How sending goes. Items are snapshots, or spans.

    Attributes:
        queued: items that wait.
        sent: items acknowledged.
        dropped: items given up: the queue was full, or the collector refused them for good.
        refused: those of them that were refused.
        failed: rounds that failed.
        rejected: points or spans the collector said it didn't take (HTTP only).
        failing: the last round failed.
        last_error: why a round last failed; empty if none has.
        delay: seconds from the item that was acknowledged last to its acknowledgement; None if
            none was.
        last_success: nanoseconds since the Unix epoch; 0 if nothing was acknowledged yet.
    """

    queued: int = 0
    sent: int = 0
    dropped: int = 0
    refused: int = 0
    failed: int = 0
    rejected: int = 0
    failing: bool = False
    last_error: str = ""
    delay: float | None = None
    last_success: int = 0


class Cargo(Protocol[T_contra]):
    """What a sender must know of what it sends."""

    @property
    def batch(self) -> int:
        """Items that are sent together at most."""

    @property
    def pause(self) -> float:
        """Seconds to wait after a batch that was not full."""

    def parts(self, items: Sequence[T_contra]) -> Iterable[Any]:
        """Returns a batch as one or more requests."""

    def data(self, part: Any) -> Any:
        """Returns what the exporter takes for a request."""

    def arrived(self, part: Any) -> None:
        """Takes in that a request was acknowledged."""

    def done(self, items: Sequence[T_contra]) -> None:
        """Takes in that a batch was acknowledged as a whole."""

    def time(self, items: Sequence[T_contra]) -> int:
        """Returns of when a batch is, nanoseconds since the Unix epoch."""


@dataclass(slots=True)
class _Pending(Generic[T]):
    items: list[T]
    parts: deque[Any] | None = None
    """What of it still has to arrive; None as long as nothing was tried."""


def metrics_sender(settings: Settings) -> Sender[Snapshot]:
    """Returns a sender of snapshots."""
    from kernob.telemetry.otlp_metrics import Snapshots  # noqa: PLC0415

    return Sender(settings, Snapshots(settings.temporality))


def traces_sender(settings: Settings) -> Sender[Span]:
    """Returns a sender of spans."""
    from kernob.telemetry.otlp_traces import Spans  # noqa: PLC0415

    return Sender(settings, Spans())


class Sender(Generic[T]):
    """Sends items from a thread of its own, in order, each until it is acknowledged."""

    def __init__(self, settings: Settings, cargo: Cargo[T]) -> None:
        """Starts the thread; nothing is sent before the first `offer`."""
        self._settings = settings
        self._cargo = cargo
        self._state = State()
        self._lock = threading.Condition()
        self._queue: deque[_Pending[T]] = deque()
        self._queued = 0
        self._sending = False
        self._closing = threading.Event()
        self._aborted = False
        self._retrying = False
        self._status = 0
        self._error = ""
        self._exporter = otlp_exporters.exporter(
            replace(settings, endpoint=self.endpoint), self._answered
        )
        name = f"kernob-{settings.signal}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._log_reader = _LogReader(self._thread, self._heard)
        logger = logging.getLogger(otlp_exporters.logger_name(settings))
        logger.propagate = False
        logger.addHandler(self._log_reader)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        """Where it sends."""
        return otlp_exporters.endpoint(self._settings)

    @property
    def state(self) -> State:
        """How sending goes, at this moment."""
        with self._lock:
            return replace(self._state, queued=self._queued)

    def offer(self, *items: T) -> None:
        """Queues items; never waits. If the queue is full its oldest batch is dropped."""
        most = max(2 * self._cargo.batch, self._settings.queue)
        with self._lock:
            for item in items:
                if self._queued >= most:
                    self._drop_oldest()
                last = self._queue[-1] if self._queue else None
                if last is None or last.parts is not None or len(last.items) >= self._cargo.batch:
                    self._queue.append(_Pending([item]))
                else:
                    last.items.append(item)
                self._queued += 1
            self._lock.notify()

    def _drop_oldest(self) -> None:
        # Not one on its way: it may arrive, and would count as sent and as dropped.
        at = int(self._sending)
        count = len(self._queue[at].items)
        del self._queue[at]
        self._queued -= count
        self._count(dropped=count)

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
        logger = logging.getLogger(otlp_exporters.logger_name(self._settings))
        logger.removeHandler(self._log_reader)

    def _run(self) -> None:
        backoff = 1.0
        while pending := self._next():
            if self._send(pending):
                backoff = 1.0
                if len(pending.items) < self._cargo.batch:
                    self._closing.wait(self._cargo.pause)
            elif self._closing.is_set():
                return
            else:
                self._closing.wait(backoff)
                backoff = min(2 * backoff, BACKOFF_MAX)

    def _next(self) -> _Pending[T] | None:
        """Returns the oldest batch, once there is one; None if there is no more to come."""
        with self._lock:
            while not self._queue:
                if self._closing.is_set():
                    return None
                self._lock.wait()
            self._sending = True
            pending = self._queue[0]
            if pending.parts is None:
                pending.parts = deque(self._cargo.parts(pending.items))
            return pending

    def _send(self, pending: _Pending[T]) -> bool:
        """Sends what is left of a batch; returns whether it is done with."""
        arrived, count = True, len(pending.items)
        while pending.parts and (arrived := self._export(pending.parts[0])):
            self._cargo.arrived(pending.parts.popleft())
        if arrived:
            self._cargo.done(pending.items)
        refused = not arrived and self._status != 0 and self._status not in _RETRYABLE
        with self._lock:
            self._sending = False
            if arrived or refused:
                self._queue.popleft()
                self._queued -= count
            failed_before = self._state.failing
            if arrived:
                now = time.time_ns()
                # A clock that is set meanwhile must not make it negative.
                delay = max(0, now - self._cargo.time(pending.items)) / 1e9
                self._state = replace(self._state, failing=False, delay=delay, last_success=now)
                self._count(sent=count)
            else:
                error = self._error or self._state.last_error
                self._state = replace(self._state, failing=True, last_error=error)
                gone = count if refused else 0
                self._count(failed=1, dropped=gone, refused=gone)
        if failed_before and arrived:
            _log.info("OTLP: the collector takes %s again", self._settings.signal)
        elif not failed_before and not arrived:
            _log.warning(
                "OTLP: can't send %s (said once until it works again): %s",
                self._settings.signal,
                self._error,
            )
        return arrived or refused

    def _export(self, part: Any) -> bool:
        """Sends one request, with the exporter's own retries; returns whether it arrived."""
        self._status = 0
        self._error = ""
        try:
            result = self._exporter.export(self._cargo.data(part))
        except Exception as error:  # noqa: BLE001
            # gRPC's exporter lets errors through, its own among them when it is shut down.
            self._error = f"{type(error).__name__}: {error}"[:ERROR_LENGTH]
            return False
        finally:
            self._retrying = False
        return bool(result.name == "SUCCESS")

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
