"""PostgreSQL for the tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from servers import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65534
SETUP = "CREATE TABLE t (id int PRIMARY KEY, name text)"


@dataclass(frozen=True)
class Database:
    """A running server."""

    port: int

    def url(self, port: int = 0) -> str:
        """Returns where it is: a connection there asks for no encryption."""
        return f"postgresql://somebody@127.0.0.1:{port or self.port}/shop?sslmode=disable"

    def connect(self, port: int = 0, **options: Any) -> psycopg.Connection[Any]:
        """Returns a connection of psycopg, which commits each statement by itself."""
        return psycopg.connect(self.url(port), **({"autocommit": True} | options))


def program(name: str) -> str:
    """Returns the path of one of PostgreSQL's programs, which Debian keeps apart."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    if not found:
        pytest.skip(f"{name} is missing: apt-get install postgresql")
    return str(found[-1])


@contextlib.contextmanager
def running() -> Iterator[Database]:
    """PostgreSQL with a database and a table; it refuses to be root's."""
    port = free_port()
    directory = Path(tempfile.mkdtemp(prefix="kernob-postgres-"))
    os.chown(directory, NOBODY, NOBODY)
    data, log = directory / "data", directory / "log"
    somebody = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    subprocess.run(
        [
            *(*somebody, program("initdb"), "-D", data, "-U", "somebody", "-A", "trust"),
            *("--no-sync", "--encoding=UTF8", "--locale=C"),
        ],
        check=True,
        capture_output=True,
        cwd=directory,
    )
    with log.open("w") as output:
        process = subprocess.Popen(
            [
                *(*somebody, program("postgres"), "-D", data, "-p", str(port)),
                *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="),
                *("-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "autovacuum=off"),
            ],
            stdout=output,
            stderr=output,
            cwd=directory,
        )
    try:
        wait_until(lambda: "ready to accept" in log.read_text(), "PostgreSQL to start")
        with psycopg.connect(Database(port).url().replace("/shop", "/postgres")) as c:
            c.autocommit = True
            c.execute("CREATE DATABASE shop")
        database = Database(port)
        with database.connect() as c:
            c.execute(SETUP)
        yield database
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)
        shutil.rmtree(directory)
