"""A ClickHouse server or cluster by its URL, over HTTP."""

from __future__ import annotations

import secrets
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

import clickhouse_connect
import pyarrow.parquet as pq
from clickhouse_connect.driver.exceptions import Error
from clickhouse_connect.driver.external import ExternalData

from kernob.errors import ConfigError, StoreError
from kernob.store import clickhouse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import pyarrow as pa

    from kernob import config
    from kernob.store.engine import Limits, Source

_PORTS: Final = {"http": 8123, "https": 8443}
_TABLE: Final = "kernob_source"
_CONNECT_SECONDS: Final = 10
_ANSWER_SECONDS: Final = 600


class Remote:
    """An `Engine` over ClickHouse's HTTP interface.

    The server must know `format_schema_source` (25.8 and later).
    """

    def __init__(self, settings: config.Store) -> None:
        """Connects.

        Raises:
            ConfigError: `password_file` can't be read.
            StoreError: the server can't be reached, or refuses.
        """
        url = urlsplit(settings.url)
        self._place = f"{url.hostname}:{url.port or _PORTS[url.scheme]}"
        self._on = f" ON CLUSTER {settings.cluster}" if settings.cluster else ""
        with self._errors():
            self._client = clickhouse_connect.get_client(
                host=url.hostname,
                port=url.port or _PORTS[url.scheme],
                interface=url.scheme,
                username=unquote(url.username or "default"),
                password=_password(settings) or unquote(url.password or ""),
                connect_timeout=_CONNECT_SECONDS,
                send_receive_timeout=_ANSWER_SECONDS,
                query_limit=0,
                query_retries=0,
                # One session can run one query at a time.
                autogenerate_session_id=False,
                show_clickhouse_errors=True,
            )
            self._client.command(f"CREATE DATABASE IF NOT EXISTS {settings.database}{self._on}")
            self._client.database = settings.database

    def command(self, statement: str) -> None:
        """Runs a statement without an answer."""
        with self._errors():
            self._client.command(statement)

    def insert(self, statement: str, source: Source) -> None:
        """Runs an INSERT ... SELECT over one message."""
        made = statement.replace("{source}", f"input('{source.structure}')")
        with self._errors():
            self._client.command(
                f"{made} FORMAT ProtobufSingle",
                data=source.body,
                settings=clickhouse.writing(source),
            )

    def select(self, statement: str, source: Source) -> pa.Table:
        """Returns the answer to a SELECT over one message."""
        data = ExternalData(
            file_name=_TABLE, data=source.body, fmt="ProtobufSingle", structure=source.structure
        )
        with self._errors():
            return clickhouse.table(
                self._client.raw_query(
                    statement.replace("{source}", _TABLE),
                    settings=clickhouse.writing(source),
                    fmt="ArrowStream",
                    external_data=data,
                )
            )

    def read(
        self,
        query: str,
        parameters: Mapping[str, object],
        limits: Limits,
        tag: str,
        *,
        guarded: bool = False,
    ) -> pa.Table:
        """Returns the answer to one SELECT."""
        settings = clickhouse.reading(limits) | {
            "readonly": int(guarded),
            "query_id": f"{tag}-{secrets.token_hex(4)}",
        }
        with self._errors(reading=True):
            return clickhouse.table(
                self._client.raw_query(
                    query, parameters=dict(parameters), settings=settings, fmt="ArrowStream"
                )
            )

    def cancel(self, tag: str) -> None:
        """Ends the queries that were started with this tag."""
        prefix = clickhouse.quoted(f"{tag}-")
        self.command(f"KILL QUERY{self._on} WHERE startsWith(query_id, {prefix}) ASYNC")

    def save(self, query: str, file: Path) -> None:
        """Writes the answer to a SELECT to a Parquet file."""
        with (
            self._errors(),
            _file_errors(file),
            file.open("wb") as target,
            self._client.raw_stream(query, fmt="Parquet") as answer,
        ):
            shutil.copyfileobj(answer, target)

    def load(self, table: str, file: Path) -> int:
        """Returns how many rows of a Parquet file were added to a table."""
        with self._errors(), _file_errors(file), file.open("rb") as source:
            rows = int(pq.ParquetFile(file).metadata.num_rows)
            self._client.raw_insert(table, insert_block=source, fmt="Parquet")
            return rows

    def release_memory(self) -> None:
        """Does nothing: the memory is the server's."""

    def close(self) -> None:
        """Lets go of the connections."""
        self._client.close()

    @contextmanager
    def _errors(self, *, reading: bool = False) -> Iterator[None]:
        try:
            yield
        except Error as error:
            text = str(error)
            if "Code: " in text:
                raise clickhouse.error(text, reading=reading) from error
            line = text.partition("\n")[0]
            raise StoreError(
                f"ClickHouse at {self._place}: {line}", remedy="look at store.url"
            ) from error


@contextmanager
def _file_errors(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"{file}: {error.strerror or error}") from error


def _password(settings: config.Store) -> str:
    if settings.password_file is None:
        return ""
    try:
        return settings.password_file.read_text("utf-8").strip()
    except OSError as error:
        raise ConfigError(f"store.password_file: {error}") from error
