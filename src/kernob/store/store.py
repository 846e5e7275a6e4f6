"""The store: what the server writes to and the queries read from."""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
import time
import weakref
from collections import Counter
from typing import TYPE_CHECKING, Final

from kernob.errors import QueryCancelledError, StoreDataError, StoreError
from kernob.store import decode, guard, nested, requests, schema
from kernob.store.embedded import Embedded, default_folder
from kernob.store.engine import Limits, Refused, Signal, Source
from kernob.store.survey import FUTURE, REFUSALS, Bounds, survey
from kernob.store.tables import KINDS, NUMBERS, SEEN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from kernob import config
    from kernob.store.engine import Engine, Reader
    from kernob.store.survey import Statement

log = logging.getLogger(__name__)

MOST_SERIES: Final = 2_000_000
"""Series that are kept in mind as written today: 16 bytes each, and as much again."""
SMALL: Final = 512 << 10
"""Bytes of metrics that Python surveys: in 3 ms, with its lock held; a statement takes 10."""
_PAUSE: Final = 0.02
"""Seconds between two attempts to end a query."""
REASONS: Final = {
    "time": "the time is 0, older than the retention, or more than a day ahead",
    "trace": "the trace_id is not 16 bytes",
    "span": "the span_id is not 8 bytes",
    "kind": "the kind of metric is unknown",
    "data": "the store can't read it",
    "disk_limit": "it was dropped before its time, for store.disk_limit",
}
"""Why a record is refused, by the name under which it is counted."""


class Store:
    """All that was sent. Methods may be called from any thread.

    Two threads that write at once are right for two cores.
    """

    def __init__(self, engine: Engine, settings: config.Store) -> None:
        self.engine = engine
        self.settings = settings
        self._readers: weakref.WeakValueDictionary[str, _Reader] = weakref.WeakValueDictionary()
        self._lock = threading.Lock()
        self._day = time.time() // 86400
        self._losses: Counter[tuple[Signal, str]] = Counter()
        self._said_unreadable: set[Signal] = set()
        self._unwritten: Counter[tuple[Signal, str]] = Counter()

    @classmethod
    def open(cls, settings: config.Store) -> Store:
        """Opens the store, and makes or migrates what it needs.

        Raises:
            StoreBusyError: another process holds it.
            StoreError: it can't be opened, or is of a newer Kernob.
        """
        engine: Engine
        if settings.url:
            # Only whoever has a server needs its client.
            from kernob.store.remote import Remote  # noqa: PLC0415

            engine = Remote(settings)
        else:
            engine = Embedded(settings.path or default_folder(), settings.database)
        try:
            schema.prepare(engine, settings)
        except BaseException:
            engine.close()
            raise
        return cls(engine, settings)

    # -- writing -----------------------------------------------------------------------------------

    def write(self, signal: Signal, bodies: Sequence[bytes]) -> list[Refused]:
        """Stores whole export requests (protobuf, well-formed) of one signal.

        Args:
            signal: what the requests carry.
            bodies: the requests; all go in together.

        Returns:
            One for each body: what was refused of it.

        Raises:
            StoreFullError: no space; nothing of this may be acknowledged.
            StoreError: it failed otherwise; as above.
        """
        now = time.time_ns()
        keep = int(getattr(self.settings, f"{signal}_retention"))
        bounds = Bounds(now - keep * 10**9, now + FUTURE)
        if signal == Signal.PROFILES:
            # A request has one dictionary for all its profiles: requests can't be put together.
            refused = [self._write_together(signal, [body], bounds)[0] for body in bodies]
        else:
            refused = self._write_together(signal, bodies, bounds)
        self._count(signal, refused)
        return [_answer(counts) for counts in refused]

    def _write_together(
        self, signal: Signal, bodies: Sequence[bytes], bounds: Bounds
    ) -> list[Counter[str]]:
        """Returns what was refused of each body, by reason."""
        message = decode.MESSAGES[signal]
        whole = b"".join(bodies)
        body = nested.to_text(signal, whole)
        try:
            if signal == Signal.METRICS and len(whole) <= SMALL:
                counts = requests.survey_metrics(whole, bounds)
            else:
                counts = self._survey(signal, body, bounds)
        except StoreDataError as error:
            if len(bodies) > 1:
                # Halves: one request that can't be read costs the others few statements.
                half = len(bodies) // 2
                first = self._write_together(signal, bodies[:half], bounds)
                return first + self._write_together(signal, bodies[half:], bounds)
            self._say_unreadable(signal, error)
            return [Counter(data=requests.records(signal, whole))]
        refused = _refused(signal, bodies, counts)
        if signal == Signal.PROFILES and any(counts["records"]):
            try:
                self._insert_profiles(whole, body, bounds)
            except StoreDataError as error:
                self._say_unreadable(signal, error)
                return [Counter(data=requests.records(signal, whole))]
        for statement in self._statements(signal, counts, bounds):
            try:
                self._insert(statement, message, body)
            except StoreDataError:
                # For one request's sake the others must not fail.
                for one, lost in zip(bodies, refused, strict=True):
                    lost["data"] += self._insert_alone(signal, statement, one)
        return refused

    def _survey(self, signal: Signal, body: bytes, bounds: Bounds) -> dict[str, list[int]]:
        """Returns the columns of `survey`."""
        statement = survey(signal, bounds)
        source = Source(statement.structure, decode.SCHEMA, decode.MESSAGES[signal], body)
        columns: dict[str, list[int]] = self.engine.select(statement.sql, source).to_pydict()
        return columns

    def _statements(
        self, signal: Signal, counts: Mapping[str, Sequence[int]], bounds: Bounds
    ) -> list[Statement]:
        database = self.settings.database
        # A condition that nothing fails costs its analysis.
        all_within = not any(any(counts.get(reason, ())) for reason in REFUSALS)
        needed = None if all_within else bounds
        if signal == Signal.METRICS:
            exemplars = any(counts["exemplars"])
            kinds = [kind for kind in KINDS if any(counts.get(kind, ()))]
            numbers = [kind for kind in kinds if kind in NUMBERS]
            made = [
                decode.metrics(database, kind, needed, exemplars=exemplars)
                for kind in kinds
                if kind not in NUMBERS
            ]
            if numbers:
                made.append(decode.numbers(database, numbers, needed, exemplars=exemplars))
            return made
        if not any(counts.get("records", ())):
            return []
        if signal == Signal.TRACES:
            events, links = any(counts["events"]), any(counts["links"])
            return [decode.traces(database, needed, events=events, links=links)]
        if signal == Signal.LOGS:
            return [decode.logs(database, bounds, all_within=all_within)]
        return []

    def _insert_profiles(self, whole: bytes, body: bytes, bounds: Bounds) -> None:
        """Stores a request of profiles: as it came, and what is known of each profile."""
        name = hashlib.blake2b(whole, digest_size=16).hexdigest()
        database = self.settings.database
        # First what may fail: that part of the store reads the request, the other takes it whole.
        statement = decode.profiles(database, name, bounds)
        self._insert(statement, decode.MESSAGES[Signal.PROFILES], body)
        request = b"\x0a" + nested.to_varint(len(whole)) + whole
        self._insert(decode.whole(database, name, int(time.time())), "Request", request)

    def _insert(self, statement: Statement, message: str, body: bytes) -> None:
        source = Source(statement.structure, decode.SCHEMA, message, body)
        self.engine.insert(statement.sql, source)

    def _insert_alone(self, signal: Signal, statement: Statement, body: bytes) -> int:
        """Returns how many records of the statement's kind the store could not read."""
        try:
            self._insert(statement, decode.MESSAGES[signal], nested.to_text(signal, body))
        except StoreDataError as error:
            self._say_unreadable(signal, error)
            return requests.records(signal, body, statement.kinds or KINDS)
        return 0

    def _say_unreadable(self, signal: Signal, error: StoreDataError) -> None:
        """Logs it once for each signal, since a sender could fill the log; it is counted, too."""
        if signal not in self._said_unreadable:
            self._said_unreadable.add(signal)
            log.warning("a request of %s can't be read (said once): %s", signal, error)

    def _count(self, signal: Signal, refused: Sequence[Counter[str]]) -> None:
        for counts in refused:
            for reason, records in counts.items():
                if records:
                    self.count_lost(signal, reason, records)

    def count_lost(self, signal: Signal, reason: str, records: int) -> None:
        """Adds to `losses`."""
        with self._lock:
            self._losses[signal, reason] += records
            self._unwritten[signal, reason] += records

    def forget_series(self, *, of_other_days: bool = False) -> None:
        """Forgets which series were written, so that each is written again when it comes.

        Args:
            of_other_days: only if a day has gone by, or they are too many to keep in mind.

        Raises:
            StoreError: it failed.
        """
        today = time.time() // 86400
        if of_other_days and today == self._day and not self._many_series():
            return
        self._day = today
        on = schema.on_cluster(self.settings)
        self.engine.command(f"TRUNCATE TABLE {self.settings.database}.{SEEN}{on}")

    def _many_series(self) -> bool:
        answer = self.reader().read(
            "SELECT sum(total_rows) AS n FROM system.tables "
            "WHERE database = {database:String} AND name = 'kernob_seen'",
            database=self.settings.database,
        )
        return bool(answer["n"][0].as_py() > MOST_SERIES)

    def losses(self) -> dict[tuple[Signal, str], int]:
        """Returns the number of records refused, or dropped early, since the store was opened.

        By signal and reason: one of `REASONS`.
        """
        with self._lock:
            return dict(self._losses)

    def write_losses(self) -> None:
        """Adds to the table `kernob_refused` what was refused since the last time.

        Raises:
            StoreError: it failed; the next call tries again.
        """
        with self._lock:
            counts, self._unwritten = self._unwritten, Counter()
        if not counts:
            return
        rows = ", ".join(
            f"(now(), '{signal}', '{reason}', {records})"
            for (signal, reason), records in counts.items()
        )
        try:
            self.engine.command(
                f"INSERT INTO {self.settings.database}.kernob_refused VALUES {rows}"
            )
        except StoreError:
            with self._lock:
                self._unwritten += counts
            raise

    # -- reading -----------------------------------------------------------------------------------

    def reader(self, limits: Limits | None = None, tag: str = "") -> Reader:
        """Returns what answers questions; `cancel(tag)` ends them."""
        reader = _Reader(self.engine, limits or Limits(), tag or secrets.token_hex(8))
        self._readers[reader.tag] = reader
        return reader

    def query(
        self, sql: str, limits: Limits | None = None, tag: str = "", **parameters: object
    ) -> pa.Table:
        """Returns the answer to one SELECT that comes from outside.

        It can neither write, nor read files or the network, nor change its limits.

        Raises:
            QueryError: it is none, is wrong, or over its limits.
            QueryCancelledError: `cancel(tag)` was called.
        """
        reader = _Reader(self.engine, limits or Limits(), tag or secrets.token_hex(8), guarded=True)
        self._readers[reader.tag] = reader
        return reader.read(guard.subquery(sql), **parameters)

    def cancel(self, tag: str) -> None:
        """Ends the queries of the reader with this tag, and all it would still make.

        Returns once none is left.
        """
        reader = self._readers.get(tag)
        if reader is None:
            return
        reader.cancelled = True
        # A query may be between its start and ClickHouse's list of queries: so again.
        while reader.busy:
            self.engine.cancel(tag)
            time.sleep(_PAUSE)

    def close(self) -> None:
        """Waits for what runs and lets go of the store."""
        try:
            self.write_losses()
        finally:
            self.engine.close()


class _Reader:
    """Reads under one tag until it is cancelled."""

    def __init__(self, engine: Engine, limits: Limits, tag: str, *, guarded: bool = False) -> None:
        self._engine = engine
        self._limits = limits
        self._guarded = guarded
        self.tag = tag
        self.cancelled = False
        self._running = 0
        self._lock = threading.Lock()

    @property
    def busy(self) -> bool:
        """Whether a query runs."""
        return self._running > 0

    def read(self, query: str, **parameters: object) -> pa.Table:
        self._count(1)
        try:
            if self.cancelled:
                raise QueryCancelledError("the query was cancelled")
            return self._engine.read(
                query, parameters, self._limits, self.tag, guarded=self._guarded
            )
        finally:
            self._count(-1)

    def _count(self, more: int) -> None:
        with self._lock:
            self._running += more


def _refused(
    signal: Signal, bodies: Sequence[bytes], counts: Mapping[str, Sequence[int]]
) -> list[Counter[str]]:
    """Returns what each body holds that can't be stored, by reason, from the survey's columns."""
    refused: list[Counter[str]] = [Counter() for _ in bodies]
    reasons = [reason for reason in REFUSALS if any(counts.get(reason, ()))]
    empty = counts.get("empty", ())
    if not reasons and not any(empty):
        return refused
    first = 0
    for body, lost in zip(bodies, refused, strict=True):
        last = first + requests.resources(body)
        for reason in reasons:
            lost[reason] += sum(counts[reason][first:last])
        if signal == Signal.METRICS and any(empty[first:last]):
            lost["kind"] += requests.without_data(body)
        first = last
    return refused


def _answer(lost: Counter[str]) -> Refused:
    reasons = [REASONS[reason] for reason, records in lost.items() if records]
    return Refused(lost.total(), reasons[0] if reasons else "")
