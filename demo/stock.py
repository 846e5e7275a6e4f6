"""`stock`: how many there are of each product, in MariaDB, remembered by Memcached."""

from __future__ import annotations

import sys

import pymysql
from pymemcache import Client

from demo import settings, web

MEMCACHED_TIMEOUT = 0.1
KEPT = 30
"""Seconds for which Memcached keeps a number."""
FULL = 1_000_000


class Stock:
    """One worker, and its connections."""

    def __init__(self, found: settings.Settings) -> None:
        self._settings = found
        self._database = connect(found)
        self._cache = Client(
            ("127.0.0.1", found.ports["memcached"]),
            connect_timeout=MEMCACHED_TIMEOUT,
            timeout=MEMCACHED_TIMEOUT,
        )

    def level(self, product: int) -> web.Answer:
        """Answers how many there are: from the cache, or the database if it has none or is late."""
        try:
            kept = self._cache.get(f"stock:{product}")
        except TimeoutError:
            return {"product": product, "level": self._read(product), "from": "database"}
        if kept is not None:
            return {"product": product, "level": int(kept), "from": "cache"}
        level = self._read(product)
        self._remember(product, level)
        return {"product": product, "level": level, "from": "database"}

    def reserve(self, product: int) -> web.Answer:
        """Takes one from the stock."""
        if self._settings.fault == "errors":
            raise web.FailedError(500, "the demo's fault: errors")
        with self._database.cursor() as cursor:
            cursor.execute("UPDATE levels SET level = level - 1 WHERE product = %s", [product])
            if not cursor.rowcount:
                raise web.FailedError(404, f"there is no product {product}")
        self._forget(product)
        return {"product": product}

    def _read(self, product: int) -> int:
        with self._database.cursor() as cursor:
            cursor.execute("SELECT level FROM levels WHERE product = %s", [product])
            row = cursor.fetchone()
        if row is None:
            raise web.FailedError(404, f"there is no product {product}")
        return int(row[0])

    def _remember(self, product: int, level: int) -> None:
        try:
            self._cache.set(f"stock:{product}", str(level), expire=KEPT, noreply=False)
        except TimeoutError:
            print("Memcached is late: not remembered", file=sys.stderr)

    def _forget(self, product: int) -> None:
        try:
            self._cache.delete(f"stock:{product}", noreply=False)
        except TimeoutError:
            print("Memcached is late: not forgotten", file=sys.stderr)


def connect(found: settings.Settings) -> pymysql.Connection[pymysql.cursors.Cursor]:
    """Returns a connection to MariaDB."""
    return pymysql.connect(
        host="127.0.0.1",
        port=found.ports["mariadb"],
        user="stock",
        password="stock",  # noqa: S106  (for everybody to know)
        database="stock",
        autocommit=True,
    )


def set_up(found: settings.Settings) -> None:
    """Makes and fills the table."""
    with connect(found) as database, database.cursor() as cursor:
        cursor.execute("CREATE TABLE levels (product INT PRIMARY KEY, level INT NOT NULL)")
        cursor.executemany(
            "INSERT INTO levels VALUES (%s, %s)",
            [(product, FULL) for product in range(1, settings.THINGS + 1)],
        )


def main() -> None:
    """Serves: `python -m demo.stock FOLDER`."""
    found = settings.load(sys.argv[1])
    set_up(found)
    web.serve(
        found.ports["stock"],
        lambda: Stock(found),
        {
            "GET /stock/{id}": Stock.level,
            "POST /stock/{id}/reservations": Stock.reserve,
        },
    )


if __name__ == "__main__":
    main()
