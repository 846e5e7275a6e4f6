"""MySQL and MariaDB: what clients send is what is counted, at both ends.

MariaDB's own client, PyMySQL (Python's sockets), MySQL's connector and sysbench (MariaDB's
C library, prepared statements) against a real server.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import struct
import subprocess
from typing import TYPE_CHECKING

import mysql.connector
import pymysql
import pytest
from mariadb import (
    DUPLICATE,
    NO_DATABASE,
    NO_TABLE,
    START,
    SYNTAX,
    Database,
    byte_by_byte,
    command,
    connector,
    execute,
    prepare,
    running,
)
from pymysql.constants import CLIENT, COMMAND
from seen import Seen

from kernob.config import Network, Requests
from kernob.signals.network import KernelFlows
from kernob.signals.requests import KernelRequests
from servers import debian_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.live, pytest.mark.server]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """MariaDB with a database, a table and a user."""
    with running(tmp_path_factory.mktemp("mariadb")) as database:
        yield database


def agree(
    seen: Seen,
    database: Database,
    expected: dict[tuple[str, int], int],
    port: int = 0,
    unpaired: dict[str, int] | None = None,
) -> None:
    """Compares the counts of operations and errors at both ends with what was sent."""
    for side, at in (("client", port or database.port), ("server", database.port)):
        assert counted(seen, side, at, expected) == expected, side
    reasons = {
        reason: count for (name, reason), count in seen.unpaired().items() if name == "mysql"
    }
    assert reasons == (unpaired or {})
    assert not [reason for reason in seen.unseen() if reason[0] == "mysql"]


def counted(
    seen: Seen, side: str, port: int, expected: dict[tuple[str, int], int]
) -> dict[tuple[str, int], int]:
    """Returns what one side has counted, as soon as it is what is expected."""

    def counts() -> dict[tuple[str, int], int]:
        return seen.counts(side=side, port=port, protocol="mysql")

    seen.until(lambda: counts() == expected)
    return counts()


def test_queries_and_their_errors(database: Database, requests_seen: Seen) -> None:
    with database.connect(database="shop") as connection, connection.cursor() as cursor:
        for number in range(100):
            cursor.execute("SELECT name FROM t WHERE id = %s AND name <> %s", (number, "secret"))
        for _ in range(3):
            with pytest.raises(pymysql.err.ProgrammingError):
                cursor.execute("SELECT * FROM missing")
        cursor.execute("INSERT INTO t VALUES (1, 'one'), (2, 'two')")
        with pytest.raises(pymysql.err.IntegrityError):
            cursor.execute("INSERT INTO t VALUES (1, 'one')")
        cursor.execute("DELETE FROM t")
        for _ in range(7):
            connection.ping()
    expected = START | {
        ("SELECT name FROM t WHERE id = ? AND name <> ?", 0): 100,
        ("SELECT * FROM missing", NO_TABLE): 3,
        ("INSERT INTO t VALUES (?)", 0): 1,
        ("INSERT INTO t VALUES (?)", DUPLICATE): 1,
        ("DELETE FROM t", 0): 1,
        ("PING", 0): 7,
    }
    agree(requests_seen, database, expected)
    assert {row.namespace for row in requests_seen.rows(port=database.port)} == {"shop"}


def test_the_connector(database: Database, requests_seen: Seen) -> None:
    with contextlib.closing(connector(database, database="shop")) as connection:
        with connection.cursor() as cursor:
            for number in range(50):
                cursor.execute(f"SELECT '{number}'")
                cursor.fetchall()
            with pytest.raises(mysql.connector.ProgrammingError):
                cursor.execute("SELECT * FROM missing")
        connection.cmd_init_db("other")
        with pytest.raises(mysql.connector.ProgrammingError):
            connection.cmd_init_db("missing")
        connection.ping()
        connection.cmd_statistics()
        connection.cmd_change_user("somebody", "secret", "shop")
        with connection.cursor(prepared=True) as cursor:
            for number in range(30):
                cursor.execute("SELECT ?, 'x', ?", (number, "secret"))
                cursor.fetchall()
            with pytest.raises(mysql.connector.ProgrammingError):
                cursor.execute("SELECT * FROM missing WHERE id = ?", (1,))
    expected = {
        ("SELECT ?", 0): 50,
        ("SELECT * FROM missing", NO_TABLE): 1,
        ("INIT_DB", 0): 1,
        ("INIT_DB", NO_DATABASE): 1,
        ("STATISTICS", 0): 1,
        ("CHANGE_USER", 0): 1,
        ("PREPARE SELECT ?, ?, ?", 0): 1,
        ("SELECT ?, ?, ?", 0): 30,
        ("PREPARE SELECT * FROM missing WHERE id = ?", NO_TABLE): 1,
    }
    # What it asks besides, of itself.
    counts = requests_seen.counts(side="client", port=database.port)
    own = {
        (operation, status): count
        for (operation, status), count in counts.items()
        if operation.startswith(("SET ", "STMT_RESET", "PING"))
    }
    agree(requests_seen, database, expected | own)
    names = {
        row.operation: row.namespace
        for row in requests_seen.rows(port=database.port, side="client", status=0)
        if row.operation in ("SELECT ?", "STATISTICS", "SELECT ?, ?, ?")
    }
    assert names == {"SELECT ?": "shop", "STATISTICS": "other", "SELECT ?, ?, ?": "shop"}


def command_line(database: Database, script: str, *options: str) -> None:
    subprocess.run(
        [
            *("mariadb", "--no-defaults", "-h127.0.0.1", f"-P{database.port}", "-usomebody"),
            *("-psecret", "--force", *options, "shop"),
        ],
        input=script,
        text=True,
        check=False,
        capture_output=True,
    )


def test_the_command_line_client(database: Database, requests_seen: Seen) -> None:
    command_line(database, "SELECT 1, 'secret'; SELECT * FROM missing; SELECT 2, 'x' # it\n;" * 20)
    expected = {
        ("SELECT ?, ?", 0): 40,
        ("SELECT * FROM missing", NO_TABLE): 20,
    }
    agree(requests_seen, database, expected)


def test_compressed_connections_are_said_to_be_unseen(
    database: Database, requests_seen: Seen
) -> None:
    command_line(database, "SELECT 1;" * 20, "--compress")
    requests_seen.until(lambda: requests_seen.unseen().get(("mysql", "compressed")) == 2)
    assert requests_seen.unseen()["mysql", "compressed"] == 2
    assert not requests_seen.rows(port=database.port)


def test_several_results(database: Database, requests_seen: Seen) -> None:
    flags = CLIENT.MULTI_STATEMENTS
    with database.connect(client_flag=flags, database="shop") as c, c.cursor() as cursor:
        for _ in range(10):
            cursor.execute("SELECT 1; SELECT 2, 3; DO 1; SELECT 4")
            while cursor.nextset():
                pass
            cursor.callproc("twice")
            while cursor.nextset():
                pass
            cursor.execute("SELECT 1; SELECT * FROM missing")
            with pytest.raises(pymysql.err.ProgrammingError):
                cursor.nextset()
    agree(
        requests_seen,
        database,
        START
        | {
            ("SELECT ?; SELECT ?, ?; DO ?; SELECT ?", 0): 10,
            ("CALL `twice`()", 0): 10,
            ("SELECT ?; SELECT * FROM missing", NO_TABLE): 10,
        },
    )


def test_large_results_and_statements(database: Database, requests_seen: Seen) -> None:
    sizes = (100, 70_000, (1 << 24) - 100, (1 << 24) + 100)
    with database.connect() as connection, connection.cursor() as cursor:
        assert cursor.execute("SELECT seq, 'some text' FROM shop.seq_1_to_100000") == 100_000
        for size in sizes:
            cursor.execute(f"SELECT REPEAT('x', {size})")
            cursor.execute(f"SELECT LENGTH('{'x' * size}')")
    agree(
        requests_seen,
        database,
        START
        | {
            ("SELECT seq, ? FROM shop.seq_1_to_100000", 0): 1,
            ("SELECT REPEAT(?)", 0): len(sizes),
            # Of a statement, as much as the window shows is looked at.
            ("SELECT LENGTH(?)", 0): 1,
            ("SELECT LENGTH(?", 0): len(sizes) - 1,
        },
    )
    statement = len("SELECT LENGTH('')")
    for side in ("client", "server"):
        rows = requests_seen.rows(side=side, port=database.port)
        lengths = [row for row in rows if row.operation.startswith("SELECT LENGTH")]
        # Those of 16 MB are sent as two packets.
        assert sum(row.request_bytes for row in lengths) == sum(
            size + statement + 1 + (8 if size + statement + 1 >= 0xFFFFFF else 4) for size in sizes
        )
        texts = [row for row in rows if row.operation == "SELECT REPEAT(?)"]
        assert sum(row.response_bytes for row in texts) > sum(sizes)


def test_a_file(database: Database, requests_seen: Seen, tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_text("".join(f"{number}\t{'SELECT' * 15}\n" for number in range(20_000)))
    with database.connect(local_infile=True, database="shop") as c, c.cursor() as cursor:
        loaded = cursor.execute(f"LOAD DATA LOCAL INFILE '{path}' INTO TABLE t")
        assert loaded == 20_000
        c.commit()
        cursor.execute("TRUNCATE t")
    agree(
        requests_seen,
        database,
        START
        | {
            ("LOAD DATA LOCAL INFILE ? INTO TABLE t", 0): 1,
            ("COMMIT", 0): 1,
            ("TRUNCATE t", 0): 1,
        },
    )
    (load,) = (
        row
        for row in requests_seen.rows(side="server", port=database.port)
        if row.operation.startswith("LOAD") and row.kind in ("whole", "pieces")
    )
    assert load.request_bytes > path.stat().st_size


def test_a_cursor(database: Database, requests_seen: Seen) -> None:
    with database.connect() as connection:
        answer = command(connection, COMMAND.COM_STMT_PREPARE, b"SELECT seq FROM shop.seq_1_to_50")
        (number,) = struct.unpack_from("<I", answer, 1)
        connection._read_packet()
        connection._read_packet()
        command(connection, COMMAND.COM_STMT_EXECUTE, struct.pack("<IBI", number, 1, 1))
        connection._read_packet()
        connection._read_packet()
        for _ in range(5):
            answer = command(connection, COMMAND.COM_STMT_FETCH, struct.pack("<II", number, 10))
            while answer[0] != 0xFE:
                answer = connection._read_packet()._data
    agree(
        requests_seen,
        database,
        START
        | {
            ("PREPARE SELECT seq FROM shop.seq_1_to_50", 0): 1,
            ("SELECT seq FROM shop.seq_1_to_50", 0): 1,
            ("STMT_FETCH", 0): 5,
        },
    )


def test_prepared_statements(database: Database, requests_seen: Seen) -> None:
    """By hand, so that each packet is known."""
    with database.connect(database="shop") as connection:
        for statement in (b"SELECT ? + 17", b"INSERT INTO t VALUES (?, 'a')"):
            number = prepare(connection, statement)
            for parameter in range(5):
                execute(connection, number, parameter + 1)
            command(connection, COMMAND.COM_STMT_RESET, struct.pack("<I", number))
            connection._execute_command(COMMAND.COM_STMT_CLOSE, struct.pack("<I", number))
        with pytest.raises(pymysql.err.IntegrityError):
            execute(connection, prepare(connection, b"INSERT INTO t VALUES (?, 'b')"), 1)
        with pytest.raises(pymysql.err.ProgrammingError):
            prepare(connection, b"SELEKT")
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM t")
    insert = "INSERT INTO t VALUES (?)"
    agree(
        requests_seen,
        database,
        START
        | {
            ("PREPARE SELECT ? + ?", 0): 1,
            ("SELECT ? + ?", 0): 5,
            (f"PREPARE {insert}", 0): 2,
            (insert, 0): 5,
            (insert, DUPLICATE): 1,
            ("STMT_RESET", 0): 2,
            ("PREPARE SELEKT", SYNTAX): 1,
            ("DELETE FROM t", 0): 1,
        },
    )


def test_messages_of_single_bytes(database: Database, requests_seen: Seen) -> None:
    with (
        byte_by_byte(database.port) as port,
        database.connect(port, database="shop") as connection,
        connection.cursor() as cursor,
    ):
        for number in range(20):
            cursor.execute("SELECT 'some text', %s", (number,))
        with pytest.raises(pymysql.err.ProgrammingError):
            cursor.execute("SELECT * FROM missing")
        execute(connection, prepare(connection, b"SELECT ?"), 17)
    expected = START | {
        ("SELECT ?, ?", 0): 20,
        ("SELECT * FROM missing", NO_TABLE): 1,
        ("PREPARE SELECT ?", 0): 1,
        ("SELECT ?", 0): 1,
    }
    # The proxy has two ends of its own: four in all.
    agree(requests_seen, database, expected, port)
    agree(requests_seen, database, expected)
    assert requests_seen.counts(side="server", port=port) == expected


def test_statements_sent_ahead(database: Database, requests_seen: Seen) -> None:
    """MariaDB's connectors send a statement's preparation and its execution together."""
    with database.connect(database="shop") as connection:
        packets = b""
        for statement in (b"SELECT 1 + ?", b"SELECT 'a', ?"):
            for arguments in (
                bytes([COMMAND.COM_STMT_PREPARE]) + statement,
                bytes([COMMAND.COM_STMT_EXECUTE])
                + struct.pack("<IBIBBBBI", 0xFFFFFFFF, 0, 1, 0, 1, 3, 0, 17),
            ):
                packets += struct.pack("<I", len(arguments)) + arguments
        packets += struct.pack("<IB", 1, COMMAND.COM_PING) * 100
        connection._sock.sendall(packets)
        connection._sock.shutdown(socket.SHUT_WR)
        while connection._sock.recv(65536):
            pass
        connection._force_close()
    agree(
        requests_seen,
        database,
        START
        | {
            ("PREPARE SELECT ? + ?", 0): 1,
            ("SELECT ? + ?", 0): 1,
            ("PREPARE SELECT ?, ?", 0): 1,
            ("SELECT ?, ?", 0): 1,
            ("PING", 0): 100,
        },
    )


def test_attached_in_the_middle(database: Database) -> None:
    with (
        database.connect(database="shop") as old,
        contextlib.closing(connector(database)) as new,
        old.cursor() as cursor,
        new.cursor() as other,
    ):
        number = prepare(old, b"SELECT ? + 1")
        old._execute_command(COMMAND.COM_QUERY, "SELECT 1")
        select.select([old._sock], [], [], 5)
        with (
            contextlib.closing(KernelFlows(Network(), requests=True)) as source,
            contextlib.closing(KernelRequests(source, Requests())) as requests,
        ):
            seen = Seen(requests)
            for _ in range(5):
                old._read_packet()
            for _ in range(10):
                cursor.execute("SELECT * FROM t")
                with pytest.raises(pymysql.err.ProgrammingError):
                    cursor.execute("SELECT * FROM missing")
                other.execute("SELECT 'x'")
                other.fetchall()
            execute(old, number, 17)
            execute(old, prepare(old, b"SELECT ?"), 1)
            agree(
                seen,
                database,
                {
                    ("SELECT * FROM t", 0): 10,
                    ("SELECT * FROM missing", NO_TABLE): 10,
                    ("SELECT ?", 0): 11,
                    ("", 0): 1,
                    ("PREPARE SELECT ?", 0): 1,
                },
                # The answer that had been sent, but not been read.
                unpaired={"before": 1},
            )


def test_cut_by_a_reset(database: Database, requests_seen: Seen) -> None:
    for _ in range(5):
        connection = database.connect()
        connection._execute_command(COMMAND.COM_QUERY, "SELECT SLEEP(0.05)")
        linger = struct.pack("ii", 1, 0)
        connection._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        connection._force_close()
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    wanted = {("SET AUTOCOMMIT = ?", 0): 6, ("SET NAMES utf8mb4", 0): 6, ("SELECT ?", 0): 1}
    assert counted(requests_seen, "client", database.port, wanted) == wanted
    # The server may still answer into the connection that is gone.
    on_server = counted(requests_seen, "server", database.port, wanted)
    on_server.pop(("SELECT SLEEP(?)", 0), 0)
    assert on_server == wanted
    assert requests_seen.unpaired()["mysql", "closed"] >= 5


@pytest.mark.parametrize("prepared", ["auto", "disable"])
def test_saturation(database: Database, requests_seen: Seen, prepared: str) -> None:
    command = [
        *(debian_server("sysbench"), "oltp_point_select", "--mysql-host=127.0.0.1"),
        *(f"--mysql-port={database.port}", "--mysql-user=somebody", "--mysql-password=secret"),
        *("--mysql-db=other", "--tables=1", "--table-size=100", f"--db-ps-mode={prepared}"),
        *("--threads=4", "--time=1", "--mysql-ssl=off"),
    ]
    subprocess.run([*command, "prepare"], check=True, capture_output=True)
    done = subprocess.run([*command, "run"], check=True, capture_output=True, text=True)
    subprocess.run([*command, "cleanup"], check=True, capture_output=True)
    queries = re.search(r"queries performed:.*?read: +(\d+)", done.stdout, re.DOTALL)
    assert queries
    operation, sent = ("SELECT c FROM sbtest1 WHERE id=?", 0), int(queries[1])

    def count(side: str) -> int:
        return requests_seen.counts(side=side, port=database.port)[operation]

    for side in ("client", "server"):
        requests_seen.until(lambda side=side: count(side) == sent)
        assert count(side) == sent
