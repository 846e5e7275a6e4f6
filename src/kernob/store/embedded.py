"""ClickHouse in this process (chDB): one folder, one process at a time."""

from __future__ import annotations

import fcntl
import os
import queue
import re
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from kernob.errors import (
    QueryCancelledError,
    QueryError,
    StoreBusyError,
    StoreError,
    StoreFullError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kernob.store.engine import Limits, Source

SYSTEM_FOLDER: Final = Path("/var/lib/kernob/store")
WRITERS: Final = 2
READERS: Final = 4
"""Connections, and so statements at the same time: chDB runs one at a time on each."""

_CODE: Final = re.compile(r"Code: (\d+)\. DB::Exception: ")
_CANCELLED: Final = 394
_FULL: Final = (243, 74, 75)  # NOT_ENOUGH_SPACE, CANNOT_READ..., CANNOT_WRITE_TO_FILE_DESCRIPTOR


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
            self._connect(folder)
        except BaseException:
            os.close(self._lock)
            raise

    def _connect(self, folder: Path) -> None:
        # chDB loads 170 MB when it is imported: only whoever opens a store pays for it.
        from chdb.state.sqlitelike import Connection  # noqa: PLC0415

        self._writers: queue.Queue[Connection] = queue.Queue()
        self._readers: queue.Queue[Connection] = queue.Queue()
        self._all: list[Connection] = []
        for pool, size in ((self._writers, WRITERS), (self._readers, READERS)):
            for _ in range(size):
                try:
                    connection = Connection(str(folder))
                except RuntimeError as error:
                    raise _error(error, StoreError) from error
                self._all.append(connection)
                pool.put(connection)
        self._control = Connection(str(folder))
        self._all.append(self._control)
        self._control_lock = threading.Lock()

    def command(self, statement: str) -> None:
        """Runs a statement without an answer."""
        self._write(statement)

    def insert(self, statement: str, source: Source) -> None:
        """Runs an INSERT ... SELECT over one message."""
        with _memory_file(source.body) as path:
            self._write(_over(statement, source, path))

    def select(self, statement: str, source: Source) -> pa.Table:
        """Returns the answer to a SELECT over one message."""
        with _memory_file(source.body) as path:
            return _table(self._write(_over(statement, source, path)))

    def _write(self, statement: str) -> object:
        connection = self._writers.get()
        try:
            return connection.query(statement, "ArrowStream")
        except RuntimeError as error:
            raise _error(error, StoreError) from error
        finally:
            self._writers.put(connection)

    def read(
        self, query: str, parameters: Mapping[str, object], limits: Limits, tag: str
    ) -> pa.Table:
        """Returns the answer to one SELECT."""
        settings = {
            "max_execution_time": limits.seconds,
            "max_memory_usage": limits.memory,
            "max_result_rows": limits.rows,
            "log_comment": _quoted(tag),
            # chDB 26.5 hangs when two threads encode an answer.
            "output_format_arrow_parallel_encoding": 0,
        }
        connection = self._readers.get()
        try:
            connection.query(f"USE {self.database}")
            connection.query("SET " + ", ".join(f"{k} = {v}" for k, v in settings.items()))
            return _table(connection.query(query, "ArrowStream", params=_texts(parameters)))
        except RuntimeError as error:
            raise _error(error, QueryError) from error
        finally:
            self._readers.put(connection)

    def cancel(self, tag: str) -> None:
        """Ends the queries that were started with this tag."""
        with self._control_lock:
            try:
                self._control.query(
                    f"KILL QUERY WHERE Settings['log_comment'] = {_quoted(tag)} ASYNC"
                )
            except RuntimeError as error:
                raise _error(error, StoreError) from error

    def close(self) -> None:
        """Waits for what runs and lets go of the folder."""
        for pool, size in ((self._writers, WRITERS), (self._readers, READERS)):
            for _ in range(size):
                pool.get()
        for connection in self._all:
            connection.close()
        os.close(self._lock)


def default_folder() -> Path:
    """Returns the system's folder if it can be made and written, else the user's."""
    try:
        SYSTEM_FOLDER.mkdir(parents=True, exist_ok=True)
    except OSError:
        pass
    else:
        if os.access(SYSTEM_FOLDER, os.W_OK | os.X_OK):
            return SYSTEM_FOLDER
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / "kernob" / "store"


def _lock(folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        lock = os.open(folder / "kernob.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise StoreError(
            f"{error.filename}: {error.strerror}", remedy="choose another store.path"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(lock, 20).decode("ascii", "replace").strip() or "another process"
        os.close(lock)
        raise StoreBusyError(
            f"{folder} is open in process {holder}",
            remedy="stop that, or choose another store.path",
        ) from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


@contextmanager
def _memory_file(body: bytes) -> Iterator[str]:
    """Yields the path of a file in memory that holds the body."""
    file = os.memfd_create("kernob", os.MFD_CLOEXEC)
    try:
        view = memoryview(body)
        while view:
            view = view[os.write(file, view) :]
        yield f"/proc/self/fd/{file}"
    finally:
        os.close(file)


def _over(statement: str, source: Source, path: str) -> str:
    over = f"file('{path}', 'ProtobufSingle', '{source.structure}')"
    return (
        f"{statement.replace('{source}', over)} SETTINGS format_schema_source = 'string', "
        f"format_schema_message_name = '{source.message}', "
        f"format_schema = {_quoted(source.schema)}, materialize_skip_indexes_on_insert = 0"
    )


def _texts(parameters: Mapping[str, object]) -> dict[str, str]:
    """Returns query parameters as ClickHouse reads them: escaped text, lists as array literals."""
    return {
        name: _literal(value) if isinstance(value, list | tuple) else _escaped(str(value))
        for name, value in parameters.items()
    }


def _literal(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(_literal(item) for item in value)}]"
    return _quoted(value) if isinstance(value, str) else str(value)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _table(answer: object) -> pa.Table:
    data = answer.bytes()  # type: ignore[attr-defined]
    if not data:
        return pa.table({})
    with pa.ipc.open_stream(data) as stream:
        return stream.read_all()


def _error(error: RuntimeError, kind: type[StoreError]) -> StoreError:
    """Returns our error for one of ClickHouse, with its first line."""
    line = str(error).partition("\n")[0]
    match = _CODE.match(line)
    code = int(match[1]) if match else 0
    if code == _CANCELLED:
        return QueryCancelledError("the query was cancelled")
    if code in _FULL or "No space left" in line:
        return StoreFullError(line, remedy="free space, or set store.disk_limit lower")
    return kind(line)
