"""ClickHouse in this process (chDB): one folder, one process at a time."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import queue
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from kernob.errors import QueryError, StoreBusyError, StoreError
from kernob.store import clickhouse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pyarrow as pa

    from kernob.store.engine import Limits, Source

SYSTEM_FOLDER: Final = Path("/var/lib/kernob/store")
WRITERS: Final = 2
READERS: Final = 4
"""Connections, and so statements at the same time: chDB runs one at a time on each."""

_CONFIG: Final = """<clickhouse>
    <!-- Written by Kernob at each start: changes are lost. -->
    <timezone>UTC</timezone>
    <max_server_memory_usage>{memory}</max_server_memory_usage>
    <mark_cache_size>16777216</mark_cache_size>
    <uncompressed_cache_size>0</uncompressed_cache_size>
    <index_mark_cache_size>4194304</index_mark_cache_size>
    <index_uncompressed_cache_size>0</index_uncompressed_cache_size>
    <primary_index_cache_size>16777216</primary_index_cache_size>
    <query_condition_cache_size>4194304</query_condition_cache_size>
    <compiled_expression_cache_size>1048576</compiled_expression_cache_size>
    <mmap_cache_size>16</mmap_cache_size>
    <max_thread_pool_size>100</max_thread_pool_size>
    <max_thread_pool_free_size>4</max_thread_pool_free_size>
    <background_pool_size>2</background_pool_size>
    <background_merges_mutations_concurrency_ratio>1</background_merges_mutations_concurrency_ratio>
    <background_common_pool_size>2</background_common_pool_size>
    <background_schedule_pool_size>2</background_schedule_pool_size>
    <background_move_pool_size>1</background_move_pool_size>
    <background_fetches_pool_size>1</background_fetches_pool_size>
    <background_buffer_flush_schedule_pool_size>1</background_buffer_flush_schedule_pool_size>
    <background_distributed_schedule_pool_size>1</background_distributed_schedule_pool_size>
    <background_message_broker_schedule_pool_size>1</background_message_broker_schedule_pool_size>
    <merge_tree>
        <!-- Merged parts stay until the system has surely written what they became. -->
        <old_parts_lifetime>60</old_parts_lifetime>
        <!-- Of two threads for merges one is always free for small ones. -->
        <number_of_free_entries_in_pool_to_lower_max_size_of_merge>1</number_of_free_entries_in_pool_to_lower_max_size_of_merge>
        <number_of_free_entries_in_pool_to_execute_mutation>1</number_of_free_entries_in_pool_to_execute_mutation>
        <number_of_free_entries_in_pool_to_execute_optimize_entire_partition>1</number_of_free_entries_in_pool_to_execute_optimize_entire_partition>
        <max_bytes_to_merge_at_max_space_in_pool>4294967296</max_bytes_to_merge_at_max_space_in_pool>
    </merge_tree>
</clickhouse>
"""
MEMORY: Final = 1 << 30
"""Bytes that ClickHouse may take at its peak, queries and inserts together."""


class Embedded:
    """An `Engine` over chDB."""

    def __init__(self, folder: Path, database: str = "otel") -> None:
        """Opens the folder, and makes it if it is missing; reads are of `database`.

        Raises:
            StoreBusyError: another process holds it.
            StoreError: it can't be made, locked or read.
        """
        self.folder = folder
        self.database = database
        self._lock = _lock(folder)
        try:
            config = folder / "config.xml"
            config.write_text(_CONFIG.format(memory=MEMORY))
            self._open(f"{folder}?config-file={config}")
        except OSError as error:
            os.close(self._lock)
            raise _unusable(error) from error
        except BaseException:
            os.close(self._lock)
            raise

    def _open(self, address: str) -> None:
        # chDB is 170 MB: only whoever opens an embedded store loads it.
        from chdb.state.sqlitelike import Connection  # noqa: PLC0415

        self._connect = functools.partial(Connection, address)
        self._writers: queue.Queue[Any] = queue.Queue()
        self._readers: queue.Queue[Any] = queue.Queue()
        try:
            for pool, size in ((self._writers, WRITERS), (self._readers, READERS)):
                for _ in range(size):
                    pool.put(self._connect())
        except RuntimeError as error:
            # ClickHouse closes with its last connection.
            for pool in (self._writers, self._readers):
                while not pool.empty():
                    pool.get().close()
            raise clickhouse.error(str(error)) from error

    @contextmanager
    def _borrowed(
        self, pool: queue.Queue[Any], seconds: float | None = None, *, reading: bool = False
    ) -> Iterator[Any]:
        """Yields a connection of the pool; its errors become ours."""
        connection = pool.get(timeout=seconds)
        try:
            yield connection
        except RuntimeError as error:
            # After an error chDB 26.5 answers the connection's next SELECT with nothing at all.
            connection.close()
            connection = self._connect()
            raise clickhouse.error(str(error), reading=reading) from error
        finally:
            pool.put(connection)

    def command(self, statement: str) -> None:
        """Runs a statement without an answer."""
        with self._borrowed(self._writers) as connection:
            connection.query(statement)

    def insert(self, statement: str, source: Source) -> None:
        """Runs an INSERT ... SELECT over one message."""
        self._over(statement, source)

    def select(self, statement: str, source: Source) -> pa.Table:
        """Returns the answer to a SELECT over one message."""
        return clickhouse.table(self._over(statement, source))

    def _over(self, statement: str, source: Source) -> bytes:
        """Returns the answer to a statement over one message."""
        settings = _assignments(clickhouse.writing(source) | self._schema(source))
        with self._borrowed(self._writers) as connection, _memory_file(source.body) as path:
            file = f"file('{path}', 'ProtobufSingle', '{source.structure}')"
            made = f"{statement.replace('{source}', file)} SETTINGS {settings}"
            answer = connection.query(made, "ArrowStream")
            if source.body and not answer.storage_rows_read():
                raise StoreError("the store did not read what it was given")
            stream: bytes = answer.bytes()
            return stream

    def _schema(self, source: Source) -> dict[str, object]:
        """Returns the settings that name a source's schema: a file in the store's folder.

        Of a schema given as text chDB 26.5 writes a copy to the folder the process was started in.
        """
        name = hashlib.blake2b(source.schema.encode(), digest_size=8).hexdigest()
        file = self.folder.absolute() / f"{name}.proto"
        if not file.exists():
            try:
                # Two threads may be here; what is there must be whole.
                part = file.with_suffix(f".{threading.get_native_id()}")
                part.write_text(source.schema, "utf-8")
                part.rename(file)
            except OSError as error:
                raise clickhouse.error(str(error)) from error
        return {"format_schema_source": "file", "format_schema": str(file)}

    def read(
        self,
        query: str,
        parameters: Mapping[str, object],
        limits: Limits,
        tag: str,
        *,
        guarded: bool = False,
    ) -> pa.Table:
        """Returns the answer to one SELECT; waits for a connection at most as long as it may run.

        Raises:
            QueryError: refused, over its limits, or no connection was free.
            QueryCancelledError: `cancel` was called.
        """
        settings = clickhouse.reading(limits) | {"log_comment": tag, "readonly": int(guarded)}
        values = clickhouse.parameters(parameters)
        try:
            with self._borrowed(self._readers, limits.seconds, reading=True) as shared:
                # Read-only is for good: a connection that was is of no use to others.
                connection = self._connect() if guarded else shared
                try:
                    connection.query(f"USE {self.database}")
                    connection.query(f"SET {_assignments(settings)}")
                    answer = connection.query(query, "ArrowStream", params=values)
                    return clickhouse.table(answer.bytes())
                finally:
                    if guarded:
                        connection.close()
        except queue.Empty:
            raise QueryError("other queries keep the store busy", remedy="try again") from None

    def cancel(self, tag: str) -> None:
        """Ends the queries that were started with this tag."""
        kill = f"KILL QUERY WHERE Settings['log_comment'] = {clickhouse.quoted(tag)} ASYNC"
        # On a connection of its own: all others may be busy with what is to be ended.
        try:
            connection = self._connect()
            try:
                connection.query(kill)
            finally:
                connection.close()
        except RuntimeError as error:
            raise clickhouse.error(str(error)) from error

    def save(self, query: str, file: Path) -> None:
        """Writes the answer to a SELECT to a Parquet file."""
        name = clickhouse.quoted(str(file))
        self.command(
            f"INSERT INTO FUNCTION file({name}, 'Parquet') {query} "
            "SETTINGS engine_file_truncate_on_insert = 1"
        )

    def load(self, table: str, file: Path) -> int:
        """Returns how many rows of a Parquet file were added to a table."""
        source = f"file({clickhouse.quoted(str(file))}, 'Parquet')"
        with self._borrowed(self._writers) as connection:
            answer = connection.query(f"SELECT count() AS n FROM {source}", "ArrowStream")
            rows = int(clickhouse.table(answer.bytes())["n"][0].as_py())
            named = connection.query(f"DESCRIBE TABLE {source}", "ArrowStream")
            names = clickhouse.table(named.bytes())["name"].to_pylist()
            columns = ", ".join(f"`{name}`" for name in names)
            connection.query(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {source}")
            return rows

    def release_memory(self) -> None:
        """Gives memory that is not in use back to the system."""
        self.command("SYSTEM JEMALLOC PURGE")

    def close(self) -> None:
        """Waits for what runs and lets go of the folder."""
        for pool, size in ((self._writers, WRITERS), (self._readers, READERS)):
            for _ in range(size):
                pool.get().close()
        os.close(self._lock)


def default_folder() -> Path:
    """Returns the system's folder if it can be made and written, else the user's."""
    try:
        SYSTEM_FOLDER.mkdir(parents=True, exist_ok=True)
        if os.access(SYSTEM_FOLDER, os.W_OK | os.X_OK):
            return SYSTEM_FOLDER
    except OSError:  # Not ours to make: the user's it is.
        pass
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / "kernob" / "store"


def _unusable(error: OSError) -> StoreError:
    return StoreError(f"{error.filename}: {error.strerror}", remedy="choose another store.path")


def _lock(folder: Path) -> int:
    """Returns the descriptor that holds the folder's lock as long as it is open."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        lock = os.open(folder / "kernob.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise _unusable(error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(lock, 20).decode("ascii", "replace").strip() or "another one"
        os.close(lock)
        raise StoreBusyError(
            f"process {holder} has the store {folder} open",
            remedy="stop it, or choose another store.path",
        ) from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


@contextmanager
def _memory_file(body: bytes) -> Iterator[str]:
    """Yields the path of a file in memory that holds the body; it has no name in any folder."""
    file = os.memfd_create("kernob", os.MFD_CLOEXEC)
    try:
        rest = memoryview(body)
        while rest:
            rest = rest[os.write(file, rest) :]
        yield f"/proc/self/fd/{file}"
    finally:
        os.close(file)


def _assignments(settings: Mapping[str, object]) -> str:
    return ", ".join(f"{name} = {clickhouse.literal(value)}" for name, value in settings.items())
