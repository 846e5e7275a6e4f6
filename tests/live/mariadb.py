"""MariaDB for the tests, and its clients."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import mysql.connector
import pymysql
from pymysql.constants import COMMAND

from servers import debian_server, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


SETUP = (
    "CREATE DATABASE shop",
    "CREATE DATABASE other",
    "CREATE TABLE shop.t (id INT PRIMARY KEY, name VARCHAR(100))",
    "CREATE PROCEDURE shop.twice() BEGIN SELECT 1; SELECT 2, 3; END",
    "CREATE USER somebody IDENTIFIED BY 'secret'",
    "GRANT ALL ON *.* TO somebody",
)
NO_TABLE, NO_DATABASE, DUPLICATE, SYNTAX = 1146, 1049, 1062, 1064


@dataclass(frozen=True)
class Database:
    """A running server."""

    port: int
    pid: int

    def connect(self, port: int = 0, **options: Any) -> pymysql.Connection[Any]:
        """Returns a connection of PyMySQL, which asks `SET AUTOCOMMIT` at its start."""
        return pymysql.connect(
            host="127.0.0.1", port=port or self.port, user="somebody", password="secret", **options
        )


@contextlib.contextmanager
def running(directory: Path) -> Iterator[Database]:
    """MariaDB with a database, a table and a user."""
    server = debian_server("mariadbd")
    port = free_port()
    data = ("--no-defaults", "--user=root", f"--datadir={directory / 'data'}")
    path = str(directory / "socket")
    subprocess.run(
        [
            *(debian_server("mariadb-install-db"), *data, "--skip-test-db"),
            "--auth-root-authentication-method=normal",
        ],
        check=True,
        capture_output=True,
    )
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(
            [
                *(server, *data, f"--port={port}", "--bind-address=127.0.0.1"),
                *(f"--socket={path}", f"--pid-file={directory / 'pid'}", "--skip-name-resolve"),
                *("--local-infile=1", "--innodb-flush-log-at-trx-commit=0"),
                *("--innodb-buffer-pool-size=32M", "--max-allowed-packet=64M"),
            ],
            stdout=log,
            stderr=log,
        )
    try:
        wait_until((directory / "socket").exists, lambda: (directory / "log").read_text())
        with pymysql.connect(unix_socket=path, user="root") as root, root.cursor() as cursor:
            for statement in SETUP:
                cursor.execute(statement)
        yield Database(port, process.pid)
    finally:
        process.terminate()
        process.wait(20)


START = {("SET AUTOCOMMIT = ?", 0): 1, ("SET NAMES utf8mb4", 0): 1}
"""What PyMySQL asks first."""


def connector(server: Database, port: int = 0, **options: Any) -> Any:
    """Returns a connection of MySQL's own driver, which has types for itself only in part."""
    return mysql.connector.connect(
        host="127.0.0.1",
        port=port or server.port,
        user="somebody",
        password="secret",
        ssl_disabled=True,
        use_pure=True,
        **options,
    )


def command(connection: pymysql.Connection[Any], number: int, arguments: bytes) -> bytes:
    connection._execute_command(number, arguments)
    answer: bytes = connection._read_packet()._data
    return answer


def prepare(connection: pymysql.Connection[Any], statement: bytes) -> int:
    """Returns the server's number of a statement with one parameter."""
    number, columns, parameters = struct.unpack_from(
        "<IHH", command(connection, COMMAND.COM_STMT_PREPARE, statement), 1
    )
    for count in (columns, parameters):
        for _ in range(count + (count > 0)):
            connection._read_packet()
    return int(number)


def execute(connection: pymysql.Connection[Any], number: int, parameter: int) -> None:
    """Executes a statement and reads all rows."""
    arguments = struct.pack("<IBIBBBBI", number, 0, 1, 0, 1, 3, 0, parameter)
    answer = command(connection, COMMAND.COM_STMT_EXECUTE, arguments)
    ends = 2 if answer[0] else 0
    while ends:
        ends -= connection._read_packet().is_eof_packet()


@contextlib.contextmanager
def byte_by_byte(to: int) -> Iterator[int]:
    """Yields the port of a proxy that passes on each byte by itself, for one connection."""

    def pass_on(source: socket.socket, target: socket.socket) -> None:
        while data := source.recv(65536):
            for place in range(len(data)):
                target.sendall(data[place : place + 1])
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def serve() -> None:
            client, _ = listener.accept()
            with client, socket.create_connection(("127.0.0.1", to)) as server:
                for end in (client, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                back = threading.Thread(target=pass_on, args=(server, client))
                back.start()
                pass_on(client, server)
                back.join()

        thread = threading.Thread(target=serve)
        thread.start()
        yield port
        thread.join()
