"""A ClickHouse by URL: the same store over HTTP.

No ClickHouse server of today can be had where these tests run: chDB answers behind a thin shim
that speaks the server's HTTP (`tests/clickhouse_http.py`). So the requests of `clickhouse-connect`
and all SQL are tested; a server's own HTTP, users, replication and ON CLUSTER are not, but for the
cluster's DDL, which ClickHouse's parser reads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from clickhouse_http import clickhouse
from kernob import config
from kernob.errors import QueryCancelledError, QueryError, StoreError
from kernob.store import admin, schema
from kernob.store.engine import Limits, Refused, Signal
from kernob.store.store import REASONS, Store
from servers import free_port
from store.otlp import attributes, logs, one, rows, sums, traces

ENDLESS = "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with clickhouse(tmp_path_factory.mktemp("clickhouse"), "secret") as url:
        yield url


@pytest.fixture
def remote(url: str, tmp_path: Path) -> Iterator[Store]:
    password = tmp_path / "password"
    password.write_text("secret\n")
    database = f"otel_{time.time_ns()}"
    store = Store.open(config.Store(url=url, password_file=password, database=database))
    yield store
    store.close()


def test_all_signals_over_http(remote: Store) -> None:
    refused = [
        remote.write(Signal.TRACES, [traces({}), traces({"trace_id": b""})]),
        remote.write(Signal.LOGS, [logs({"attributes": attributes({"a": [1]})})]),
        remote.write(
            Signal.METRICS, [sums({"as_int": 1}), sums({"as_int": 2}, kind="gauge", name="load")]
        ),
    ]

    assert refused[0] == [Refused(), Refused(1, REASONS["trace"])]
    assert refused[1:] == [[Refused()], [Refused(), Refused()]]
    assert one(remote, "SELECT LogAttributes FROM otel_logs") == [("a", "[1]")]
    assert one(remote, "SELECT sum(Value) FROM kernob_points") == 3
    assert one(remote, "SELECT count() FROM kernob_series") == 2
    sizes = {size.table: size.rows for size in admin.sizes(remote)}
    assert (sizes["otel_traces"], sizes["kernob_points_1h"]) == (1, 2)


def test_parameters_limits_and_sql_from_outside(remote: Store) -> None:
    nasty = "q'x\\\n\t%d{a:String}--"

    assert rows(remote, "SELECT {a:String} AS a, {l:Array(String)} AS l", a=nasty, l=[nasty]) == [
        {"a": nasty, "l": [nasty]}
    ]
    with pytest.raises(QueryError):
        remote.reader(Limits(seconds=0.3)).read(ENDLESS)
    with pytest.raises(QueryError):
        remote.query("SELECT * FROM file('/etc/passwd', 'LineAsString')")
    assert remote.query("SELECT 1 AS n").to_pylist() == [{"n": 1}]


def test_a_query_is_cancelled(remote: Store) -> None:
    reader = remote.reader(Limits(seconds=30), tag="page")
    outcome: list[BaseException] = []

    def ask() -> None:
        try:
            reader.read(ENDLESS)
        except QueryCancelledError as error:
            outcome.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.5)
    remote.cancel("page")
    thread.join(15)

    assert len(outcome) == 1


def test_export_and_import_over_http(remote: Store, tmp_path: Path) -> None:
    remote.write(Signal.LOGS, [logs({}, {})])

    written = admin.export(remote, tmp_path / "export")
    admin.drop(remote, signal=Signal.LOGS)
    read = admin.import_(remote, tmp_path / "export")

    assert [(item.table, item.rows) for item in written] == [("otel_logs", 2)]
    assert read == written
    assert one(remote, "SELECT count() FROM otel_logs") == 2


def test_who_is_not_there_is_said_in_one_line(url: str) -> None:
    with pytest.raises(StoreError, match=r"^ClickHouse at 127.0.0.1:\d+: .*: look at store.url$"):
        Store.open(config.Store(url=f"http://127.0.0.1:{free_port()}"))
    with pytest.raises(StoreError, match="Authentication failed"):
        Store.open(config.Store(url=url))


def test_the_ddl_of_a_cluster_is_well_formed(store: Store) -> None:
    settings = msgspec.structs.replace(store.settings, cluster="main")

    statements = schema.statements(settings)

    for statement in statements:
        store.engine.read(f"EXPLAIN AST {statement}", {}, Limits(), "ddl")
        assert " ON CLUSTER main" in statement
    text = "\n".join(statements)
    assert "ENGINE = ReplicatedAggregatingMergeTree" in text
    assert "otel.otel_logs ON CLUSTER main AS otel.otel_logs_local ENGINE = Distributed(" in text
