"""`shop`: products and orders in PostgreSQL and Redis; what is in stock it asks `stock`."""

from __future__ import annotations

import http.client
import json
import sys

import dns.exception
import dns.resolver
import psycopg
import redis
from redis.maint_notifications import MaintNotificationsConfig

from demo import settings, web

SLOW = 0.4
"""Seconds that the slow query takes."""
KEPT = 20
"""Seconds for which Redis keeps a product."""


class Shop:
    """One worker, and its connections."""

    def __init__(self, found: settings.Settings) -> None:
        self._settings = found
        self._database = connect(found)
        # Otherwise it asks first for what Debian's Redis does not know: errors that are none.
        self._cache = redis.Redis(
            "127.0.0.1",
            found.ports["redis"],
            driver_info=None,
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
        )
        self._names = dns.resolver.Resolver(configure=False)
        self._names.nameservers = ["127.0.0.1"]
        self._names.port = found.ports["dns"]
        self._names.lifetime = 2.0
        self._stock: http.client.HTTPConnection | None = None

    def product(self, number: int) -> web.Answer:
        """Answers a product's name, from Redis or PostgreSQL, and how many there are."""
        kept = self._cache.get(f"product:{number}")
        if isinstance(kept, bytes):
            name = kept.decode()
        else:
            name = str(self._one("SELECT name FROM products WHERE id = %s", [number]))
            self._cache.set(f"product:{number}", name, ex=KEPT)
        level = self._ask_stock("GET", f"/stock/{number}")["level"]
        return {"id": number, "name": name, "level": level}

    def order(self, number: int) -> web.Answer:
        """Answers an order."""
        # Always the same statement: it is its duration that changes with the fault.
        sleep = SLOW if self._settings.fault == "slow-query" else 0
        product = self._one(
            "SELECT product FROM orders, pg_sleep(%s) WHERE orders.id = %s", [sleep, number]
        )
        return {"id": number, "product": product}

    def buy(self, product: int) -> web.Answer:
        """Orders one of a product: reserves it, and writes it down."""
        self._ask_stock("POST", f"/stock/{product}/reservations")
        number = self._one("INSERT INTO orders (product) VALUES (%s) RETURNING id", [product])
        self._cache.incr("orders")
        return {"id": number, "product": product}

    def _one(self, statement: str, values: list[object]) -> object:
        row = self._database.execute(statement.encode(), values).fetchone()
        if row is None:
            raise web.FailedError(404, "there is none")
        return row[0]

    def _ask_stock(self, method: str, path: str) -> web.Answer:
        """Asks `stock`, whose name is looked up each time."""
        try:
            address = self._names.resolve(settings.STOCK_NAME, "A")[0].to_text()
        except dns.exception.DNSException as exc:
            raise web.FailedError(502, str(exc)) from exc
        if self._stock is None or self._stock.host != address:
            self._stock = http.client.HTTPConnection(address, self._settings.ports["stock"])
        self._stock.request(method, path)
        answer = self._stock.getresponse()
        body = answer.read()
        if answer.status != http.client.OK:
            raise web.FailedError(502, f"stock answered {answer.status}")
        found: web.Answer = json.loads(body)
        return found


def connect(found: settings.Settings) -> psycopg.Connection:
    """Returns a connection to PostgreSQL."""
    return psycopg.connect(
        host="127.0.0.1",
        port=found.ports["postgresql"],
        user="shop",
        dbname="shop",
        autocommit=True,
    )


def set_up(found: settings.Settings) -> None:
    """Makes and fills the tables."""
    with connect(found) as database:
        database.execute("CREATE TABLE products (id SERIAL PRIMARY KEY, name TEXT NOT NULL)")
        database.execute("CREATE TABLE orders (id SERIAL PRIMARY KEY, product INT NOT NULL)")
        database.execute(
            "INSERT INTO products (name) SELECT 'product ' || generate_series(1, %s)",
            [settings.THINGS],
        )
        database.execute(
            "INSERT INTO orders (product) SELECT generate_series(1, %s)", [settings.THINGS]
        )


def main() -> None:
    """Serves: `python -m demo.shop FOLDER`."""
    found = settings.load(sys.argv[1])
    set_up(found)
    web.serve(
        found.ports["shop"],
        lambda: Shop(found),
        {
            "GET /products/{id}": Shop.product,
            "POST /products/{id}/orders": Shop.buy,
            "GET /orders/{id}": Shop.order,
        },
    )


if __name__ == "__main__":
    main()
