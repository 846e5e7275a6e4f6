"""PostgreSQL: what clients send is what is counted, at both ends.

psycopg (C library: simple, prepared, pipelined, COPY), asyncpg (Python's own sockets) and pgbench
in its three modes against a real server.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
import subprocess
from typing import TYPE_CHECKING, Any

import asyncpg
import psycopg
import pytest
from mariadb import byte_by_byte
from postgres import Database, program, running
from psycopg import pq
from seen import Seen

from kernob.config import Network, Requests
from kernob.protocols.postgresql import sqlstate
from kernob.signals.network import KernelFlows
from kernob.signals.requests import KernelRequests

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

pytestmark = [pytest.mark.live, pytest.mark.server]

NO_TABLE, DUPLICATE, DIVISION, BAD_NUMBER = "42P01", "23505", "22012", "22P02"
Expected = dict[tuple[str, str], int]


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    """PostgreSQL with a database and a table."""
    with running() as database:
        yield database


def counts(seen: Seen, side: str, port: int) -> Expected:
    """Returns what one side has counted, by operation and SQLSTATE."""
    found = seen.counts(side=side, port=port, protocol="postgresql")
    return {(text, sqlstate(status)): count for (text, status), count in found.items()}


def reasons(found: dict[tuple[str, str], int]) -> dict[str, int]:
    return {reason: count for (name, reason), count in found.items() if name == "postgresql"}


def agree(
    seen: Seen,
    database: Database,
    expected: Expected,
    port: int = 0,
    unpaired: dict[str, int] | None = None,
) -> None:
    """Compares the counts of operations and errors at both ends with what was sent."""
    for side, at in (("client", port or database.port), ("server", database.port)):
        seen.until(lambda side=side, at=at: counts(seen, side, at) == expected)  # type: ignore[misc]
        assert counts(seen, side, at) == expected, side
    assert reasons(seen.unpaired()) == (unpaired or {})
    assert not reasons(seen.unseen())


def test_simple_queries_and_their_errors(database: Database, requests_seen: Seen) -> None:
    with database.connect() as c:
        for number in range(100):
            c.execute(f"SELECT name FROM t WHERE id = {number} AND name <> 'secret'")
        for _ in range(3):
            with pytest.raises(psycopg.errors.UndefinedTable):
                c.execute("SELECT * FROM missing")
        c.execute("INSERT INTO t VALUES (1, 'one'), (2, 'two')")
        with pytest.raises(psycopg.errors.UniqueViolation):
            c.execute("INSERT INTO t VALUES (1, 'one')")
        c.execute("SELECT 1; SELECT generate_series(1, 1000); DELETE FROM t")
        with pytest.raises(psycopg.errors.DivisionByZero):
            c.execute("SELECT 1; SELECT 1/0; SELECT 2")
        c.execute("")
        c.execute("DO $$ BEGIN RAISE NOTICE 'secret'; END $$")
    agree(
        requests_seen,
        database,
        {
            ("SELECT name FROM t WHERE id = ? AND name <> ?", ""): 100,
            ("SELECT * FROM missing", NO_TABLE): 3,
            ("INSERT INTO t VALUES (?)", ""): 1,
            ("INSERT INTO t VALUES (?)", DUPLICATE): 1,
            ("SELECT ?; SELECT generate_series(?); DELETE FROM t", ""): 1,
            ("SELECT ?; SELECT ?/?; SELECT ?", DIVISION): 1,
            ("", ""): 1,
            ("DO ?", ""): 1,
        },
    )
    rows = requests_seen.rows(port=database.port)
    assert {row.namespace for row in rows} == {"shop"}


def test_prepared_statements(database: Database, requests_seen: Seen) -> None:
    with database.connect() as c:
        for number in range(50):
            c.execute("SELECT %s::int + 17", (number,), prepare=True)
            c.execute("SELECT 'x', %s::text", ("secret",))
        for _ in range(3):
            with pytest.raises(psycopg.errors.DivisionByZero):
                c.execute("SELECT 1 / %s::int", (0,), prepare=True)
            with pytest.raises(psycopg.errors.UndefinedTable):
                c.execute("SELECT * FROM missing WHERE id = %s", (1,))
    found = counts(requests_seen, "client", database.port)
    own = {key: count for key, count in found.items() if key[0].startswith("DEALLOCATE")}
    agree(
        requests_seen,
        database,
        {
            ("SELECT ?::int + ?", ""): 50,
            ("SELECT ?, ?::text", ""): 50,
            ("SELECT ? / ?::int", DIVISION): 3,
            ("SELECT * FROM missing WHERE id = ?", NO_TABLE): 3,
        }
        | own,
        unpaired=None,
    )


def send_at_once(connection: pq.abc.PGconn, *statements: bytes) -> None:
    """Sends all before it reads: psycopg's own pipeline stops where it sees an error."""
    connection.enter_pipeline_mode()
    for statement in statements:
        connection.send_query_params(statement, None)
    connection.pipeline_sync()
    while connection.flush():
        pass
    while (result := connection.get_result()) is None or (
        result.status != pq.ExecStatus.PIPELINE_SYNC
    ):
        pass
    connection.exit_pipeline_mode()


def test_a_pipeline(database: Database, requests_seen: Seen) -> None:
    with database.connect() as c:
        with c.pipeline() as pipeline:
            for number in range(200):
                c.execute("SELECT %s::int", (number,), prepare=True)
                c.execute("SELECT 'x', %s::int", (number,))
                if number % 50 == 49:
                    pipeline.sync()
                    pipeline.sync()
        send_at_once(c.pgconn, b"SELECT 1, 0::int", b"SELECT 1 / 0::int", *[b"SELECT 2, 3"] * 5)
        c.execute("SELECT 1, %s::int", (1,))
    agree(
        requests_seen,
        database,
        {
            ("SELECT ?::int", ""): 200,
            ("SELECT ?, ?::int", ""): 200 + 2,
            ("SELECT ? / ?::int", DIVISION): 1,
        },
        # At both ends.
        unpaired={"skipped": 2 * 5},
    )


def test_copies(database: Database, requests_seen: Seen) -> None:
    rows = [(number, "x" * 50) for number in range(20_000)]
    with database.connect() as c, c.cursor() as cursor:
        with cursor.copy("COPY t FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        with cursor.copy("COPY t TO STDOUT") as copy:
            assert len(list(copy.rows())) == len(rows)
        with (
            pytest.raises(psycopg.errors.InvalidTextRepresentation),
            cursor.copy("COPY t FROM STDIN") as copy,
        ):
            copy.write(b"not a number\tx\n")
        c.execute("TRUNCATE t")
    agree(
        requests_seen,
        database,
        {
            ("COPY t FROM STDIN", ""): 1,
            ("COPY t TO STDOUT", ""): 1,
            ("COPY t FROM STDIN", BAD_NUMBER): 1,
            ("TRUNCATE t", ""): 1,
        },
    )
    sent = [
        row
        for row in requests_seen.rows(side="server", port=database.port, status=0)
        if row.operation.startswith("COPY") and row.kind in ("whole", "pieces")
    ]
    for field, operation in (("request_bytes", "COPY t FROM"), ("response_bytes", "COPY t TO")):
        (row,) = (row for row in sent if row.operation.startswith(operation))
        assert getattr(row, field) > len(rows) * 55


def test_a_sync_within_a_copy(database: Database, requests_seen: Seen) -> None:
    """The C library sends it with the Execute; the server does not answer it."""
    with database.connect() as c:
        for _ in range(3):
            c.pgconn.send_query_params(b"COPY t FROM STDIN", None)
            c.pgconn.flush()
            result = c.pgconn.get_result()
            assert result is not None
            assert result.status == pq.ExecStatus.COPY_IN
            c.pgconn.put_copy_data(b"1\tone\n")
            c.pgconn.put_copy_end()
            while c.pgconn.get_result():
                pass
            # An error is of the statement that waits: one Sync too many would be taken for it.
            with pytest.raises(psycopg.errors.DivisionByZero):
                c.execute("SELECT 1 / %s::int", (0,))
            c.execute("DELETE FROM t WHERE id = %s", (1,))
    agree(
        requests_seen,
        database,
        {
            ("COPY t FROM STDIN", ""): 3,
            ("SELECT ? / ?::int", DIVISION): 3,
            ("DELETE FROM t WHERE id = ?", ""): 3,
        },
    )


def with_asyncpg(database: Database, use: Callable[[Any], Awaitable[None]]) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(database.url(), statement_cache_size=10)
        try:
            await use(connection)
        finally:
            await connection.close()

    asyncio.run(run())


def test_asyncpg(database: Database, requests_seen: Seen) -> None:
    async def use(c: Any) -> None:
        for number in range(50):
            assert await c.fetchval("SELECT $1::int + 0", number) == number
        await c.execute("SELECT 'simple', 1")
        statement = await c.prepare("SELECT generate_series(1, $1::int)")
        assert len(await statement.fetch(500)) == 500
        with pytest.raises(asyncpg.DivisionByZeroError):
            await c.fetchval("SELECT 1 / $1::int", 0)
        with pytest.raises(asyncpg.UndefinedTableError):
            await c.prepare("SELECT * FROM missing")
        async with c.transaction():
            one = await c.cursor("SELECT generate_series(1, 100)")
            other = await c.cursor("SELECT 'x', generate_series(1, 100)")
            for _ in range(5):
                assert len(await one.fetch(10)) == 10
                assert len(await other.fetch(10)) == 10
        await c.executemany("INSERT INTO t VALUES ($1, $2)", [(i, "x") for i in range(100)])
        await c.copy_records_to_table("t", records=[(i, "x") for i in range(100, 200)])
        await c.execute("TRUNCATE t")

    with_asyncpg(database, use)
    found = counts(requests_seen, "client", database.port)
    # What it asks besides, of itself.
    own = {
        key: count
        for key, count in found.items()
        if key[0].startswith(("SELECT pg_advisory_unlock_all()", "RESET", "CLOSE", "UNLISTEN"))
    }
    agree(
        requests_seen,
        database,
        {
            ("SELECT ?::int + ?", ""): 50,
            ("SELECT ?, ?", ""): 1,
            ("SELECT generate_series(?, ?::int)", ""): 1,
            ("SELECT ? / ?::int", DIVISION): 1,
            ("BEGIN", ""): 1,
            ("SELECT generate_series(?)", ""): 5,
            ("SELECT ?, generate_series(?)", ""): 5,
            ("COMMIT", ""): 1,
            ("INSERT INTO t VALUES (?)", ""): 100,
            ('COPY "t" FROM STDIN (FORMAT binary)', ""): 1,
            ("TRUNCATE t", ""): 1,
        }
        | own,
    )


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_pgbench_at_saturation(database: Database, requests_seen: Seen, mode: str) -> None:
    pgbench = [program("pgbench"), "-h127.0.0.1", f"-p{database.port}", "-Usomebody", "shop"]
    with database.connect() as c:
        made = c.execute("SELECT to_regclass('pgbench_accounts')").fetchone()
    if made == (None,):
        subprocess.run([*pgbench, "-i", "-q"], check=True, capture_output=True)
    before = counts(requests_seen, "server", database.port)
    done = subprocess.run(
        [*pgbench, "-S", "-n", "-M", mode, "-c", "4", "-T", "1"],
        check=True,
        capture_output=True,
        text=True,
    )
    found = re.search(r"actually processed: (\d+)", done.stdout)
    assert found
    transactions = int(found[1])
    assert transactions > 100
    select = ("SELECT abalance FROM pgbench_accounts WHERE aid = ?", "")
    for side in ("client", "server"):
        requests_seen.until(
            lambda side=side: (  # type: ignore[misc]
                counts(requests_seen, side, database.port)[select] - before.get(select, 0)
                == transactions
            )
        )
        assert counts(requests_seen, side, database.port)[select] == transactions
    assert not reasons(requests_seen.unpaired())


def test_messages_of_single_bytes(database: Database, requests_seen: Seen) -> None:
    with byte_by_byte(database.port) as port, database.connect(port) as c:
        for number in range(10):
            c.execute("SELECT 'some text', %s::int", (number,), prepare=True)
            c.execute("SELECT 'other text'")
        with pytest.raises(psycopg.errors.UndefinedTable):
            c.execute("SELECT * FROM missing")
    expected = {
        ("SELECT ?, ?::int", ""): 10,
        ("SELECT ?", ""): 10,
        ("SELECT * FROM missing", NO_TABLE): 1,
    }
    agree(requests_seen, database, expected, port)


def test_encryption_is_refused_or_said_to_be_unseen(
    database: Database, requests_seen: Seen
) -> None:
    with psycopg.connect(database.url().replace("disable", "prefer"), autocommit=True) as c:
        c.execute("SELECT 1")
    agree(requests_seen, database, {("SELECT ?", ""): 1})


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack(">I", 4 + len(body)) + body


def test_a_reset_in_the_middle(database: Database, requests_seen: Seen) -> None:
    with socket.create_connection(("127.0.0.1", database.port)) as raw:
        raw.sendall(message(b"", b"\0\3\0\0user\0somebody\0database\0shop\0\0"))
        answer = b""
        while not answer.endswith(b"Z\0\0\0\5I"):
            answer += raw.recv(65536)
        raw.sendall(message(b"Q", b"SELECT pg_sleep(0.2)\0"))
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with database.connect() as c:
        c.execute("SELECT pg_sleep(0.4)")
    requests_seen.until(lambda: len(reasons(requests_seen.unpaired())) > 0)
    assert counts(requests_seen, "client", database.port) == {("SELECT pg_sleep(?)", ""): 1}
    assert reasons(requests_seen.unpaired())["closed"] >= 1


def test_attached_in_the_middle(database: Database) -> None:
    with database.connect() as c:
        c.execute("SELECT %s::int + 17", (1,), prepare=True)
        with (
            contextlib.closing(KernelFlows(Network(), requests=True)) as source,
            contextlib.closing(KernelRequests(source, Requests())) as requests,
        ):
            seen = Seen(requests)
            for number in range(10):
                c.execute("SELECT %s::int + 17", (number,), prepare=True)
                c.execute("SELECT 'x', %s::int", (number,))
                with pytest.raises(psycopg.errors.UndefinedTable):
                    c.execute("SELECT * FROM missing")
            agree(
                seen,
                database,
                {
                    # Prepared before the agent: nobody knows its text.
                    ("", ""): 10,
                    ("SELECT ?, ?::int", ""): 10,
                    ("SELECT * FROM missing", NO_TABLE): 10,
                },
            )
