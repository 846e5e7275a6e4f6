"""SQL from outside can read, within limits, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kernob import config
from kernob.errors import QueryError
from kernob.store import guard
from kernob.store.engine import Limits, Signal
from kernob.store.store import Store
from store.otlp import one, traces


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    opened = Store.open(config.Store(path=tmp_path_factory.mktemp("store")))
    opened.write(Signal.TRACES, [traces({})])
    yield opened
    opened.close()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count() AS n FROM otel.otel_traces",
        "  select count() AS n from otel.otel_traces ; ",
        "WITH x AS (SELECT 1 AS n) SELECT n FROM x -- a comment with ' and )",
        "SELECT length('it''s; (not') - 9 AS n /* nor ) here ' */",
        "SELECT 1 AS `n`",
    ],
)
def test_selects_are_answered(store: Store, sql: str) -> None:
    assert store.query(sql).to_pylist() == [{"n": 1}]


@pytest.mark.parametrize(
    "sql",
    [
        "DROP TABLE otel.otel_traces",
        "SELECT 1; DROP TABLE otel.otel_traces",
        "SELECT 1) SETTINGS readonly = 0; SELECT (1",
        "SELECT 1) INTO OUTFILE '{file}' FORMAT CSV --(",
        "SELECT 1 INTO OUTFILE '{file}'",
        "INSERT INTO otel.otel_logs (Body) VALUES ('x')",
        "SELECT 1 /* ) ",
        "SELECT ' ) ",
        "SELECT \u2018) INTO OUTFILE",
        "SELECT $a$ ) $a$",
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
        "SELECT * FROM executable('id', 'TSV', 'a String')",
        "WITH x AS (SELECT 1) INSERT INTO otel.otel_logs (Body) SELECT 'x'",
        "SYSTEM SHUTDOWN",
        "SELECT nothing FROM nowhere",
        "SELECT " + "1," * 40_000 + "1",
    ],
)
def test_everything_else_is_refused(store: Store, tmp_path: Path, sql: str) -> None:
    file = tmp_path / "out"

    with pytest.raises(QueryError):
        store.query(sql.replace("{file}", str(file)))

    assert not file.exists()
    assert one(store, "SELECT count() FROM otel.otel_traces") == 1
    assert one(store, "SELECT count() FROM otel.otel_logs") == 0


def test_limits_cannot_be_lifted_from_within(store: Store) -> None:
    sql = "SELECT count() AS n FROM numbers(1000000000000) WHERE sipHash64(number) = 1"

    with pytest.raises(QueryError):
        store.query(f"{sql} SETTINGS max_execution_time = 0", Limits(seconds=0.5))


def test_brackets_in_quotes_and_comments_do_not_count() -> None:
    sql = "SELECT ')' AS a, \"(\" FROM t -- )\n WHERE b = 'x\\')' /* ( */"

    assert guard.subquery(sql) == f"SELECT * FROM (\n{sql}\n)"
