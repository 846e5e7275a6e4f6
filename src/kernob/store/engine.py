"""What the store needs of a ClickHouse, wherever it runs; and the types that cross this line."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pyarrow as pa


class Signal(enum.StrEnum):
    """What OTLP carries; each has its export request and its tables."""

    METRICS = "metrics"
    TRACES = "traces"
    LOGS = "logs"
    PROFILES = "profiles"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one query may take before it is refused.

    Attributes:
        seconds: of running.
        memory: bytes at its peak.
        rows: of the answer.
    """

    seconds: float = 10.0
    memory: int = 512 << 20
    rows: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Refused:
    """Records of one request that were not stored, though the rest of it was.

    Attributes:
        records: how many points, spans, log records or profiles.
        reason: why, for the sender (OTLP's `error_message`); the first reason if there are more.
    """

    records: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """One protobuf message that a statement reads.

    Attributes:
        structure: its columns, as for ClickHouse's `file` and `input`.
        schema: of protobuf, as text.
        message: its name in the schema.
        body: its bytes.
    """

    structure: str
    schema: str
    message: str
    body: bytes


class Reader(Protocol):
    """Answers questions: what `queries` stand on. One for each request, see `Store.reader`."""

    def read(self, query: str, **parameters: object) -> pa.Table:
        """Returns the answer to one SELECT.

        Args:
            query: SQL with `{name:Type}` for its parameters.
            parameters: their values.

        Raises:
            QueryError: refused, or over its limits.
            QueryCancelledError: `cancel` was called.
            StoreError: the store is not there.
        """
        ...


class Engine(Protocol):
    """A ClickHouse: embedded, or a server. All methods block and may be called from any thread."""

    def command(self, statement: str) -> None:
        """Runs a statement without an answer.

        Raises:
            StoreError: it failed.
        """
        ...

    def insert(self, statement: str, source: Source) -> None:
        """Runs an INSERT ... SELECT over one protobuf message.

        Args:
            statement: SQL, with `{source}` where the message's columns come from.
            source: the message.

        Raises:
            StoreFullError: no space.
            StoreError: it failed otherwise; nothing is in, or it may be sent again.
        """
        ...

    def select(self, statement: str, source: Source) -> pa.Table:
        """Returns the answer to a SELECT over one protobuf message; else as `insert`."""
        ...

    def read(
        self,
        query: str,
        parameters: Mapping[str, object],
        limits: Limits,
        tag: str,
        *,
        guarded: bool = False,
    ) -> pa.Table:
        """Returns the answer to one SELECT; as `Reader.read`.

        With `guarded` the query comes from outside: it may neither write, nor read files or the
        network, nor change its own limits.
        """
        ...

    def cancel(self, tag: str) -> None:
        """Ends the queries that were started with this tag; none is no error."""
        ...

    def save(self, query: str, file: Path) -> None:
        """Writes the answer to a SELECT to a Parquet file, over what may be there.

        Raises:
            StoreError: the file can't be written, or the query failed.
        """
        ...

    def load(self, table: str, file: Path) -> int:
        """Adds the rows of a Parquet file to a table.

        Returns:
            How many.

        Raises:
            StoreError: the file can't be read, or has other columns.
        """
        ...

    def release_memory(self) -> None:
        """Gives memory that is not in use back to the system."""
        ...

    def close(self) -> None:
        """Waits for what runs and lets go of the store."""
        ...
