"""Secrets that are planted through real servers leave the agent on none of its ways out."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
import time
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import postgres
import psycopg
import pymysql
import pytest
import redis
from mariadb import Database
from mariadb import running as running_mariadb
from pymemcache.client.base import Client as Memcached

from agents import Running
from capture import Capture, capturing
from servers import debian_server, free_port, running, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.live, pytest.mark.server]

SECRET = re.compile(rb"zq[a-z]*secret", re.IGNORECASE)
"""What all that is planted looks like; no name here does."""
NGINX = """
daemon off; worker_processes 1; pid {0}/pid; error_log {0}/errors; user root;
events {{ worker_connections 100; }}
http {{ access_log off; client_body_temp_path {0}/t; proxy_temp_path {0}/t; fastcgi_temp_path {0}/t;
  uwsgi_temp_path {0}/t; scgi_temp_path {0}/t;
  server {{ listen 127.0.0.1:{1}; location / {{ return 200 "zqbodysecret"; }} }} }}
"""


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    path, port = tmp_path_factory.mktemp("nginx"), free_port()
    (path / "conf").write_text(NGINX.format(path, port))
    command = [debian_server("nginx"), "-e", str(path / "errors"), "-c", str(path / "conf")]
    for _ in running(command, port, path / "log"):
        yield port


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    path, port = tmp_path_factory.mktemp("redis"), free_port()
    command = [debian_server("redis-server"), "--port", str(port), "--bind", "127.0.0.1"]
    for _ in running([*command, "--save", "", "--dir", str(path)], port, path / "log"):
        yield port


@pytest.fixture(scope="module")
def memcached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    path, port = tmp_path_factory.mktemp("memcached"), free_port()
    user = [] if os.geteuid() else ["-u", "root"]
    command = [debian_server("memcached"), "-l", "127.0.0.1", "-p", str(port), "-U", "0", *user]
    for _ in running(command, port, path / "log"):
        yield port


@pytest.fixture(scope="module")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with running_mariadb(tmp_path_factory.mktemp("mariadb")) as database:
        yield database


@pytest.fixture(scope="module")
def postgresql() -> Iterator[postgres.Database]:
    with postgres.running() as database:
        yield database


def plant_http(port: int) -> None:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    login = b64encode(b"user:zqbasicsecret").decode()
    headers = {"Authorization": f"Basic {login}", "Cookie": "session=zqcookiesecret"}
    for target in (
        "/orders/12345?token=zqquerysecret&next=/zqnextsecret",
        "/orders/12345#zqfragmentsecret",
        "http://user:zqurlsecret@127.0.0.1/orders/9",
        "http://zqusersecret:x@127.0.0.1/?key=zqabsolutesecret",
    ):
        client.request("GET", target, headers=headers)
        client.getresponse().read()
    client.request("POST", "/orders?zqparamsecret", body=b"password=zqformsecret")
    client.getresponse().read()
    client.close()


def plant_redis(port: int) -> None:
    commands = [
        ("SET", "zqkeysecret", "zqvaluesecret"),
        ("GET", "zqkeysecret"),
        ("LPUSH", "zqkeysecret", "zqvaluesecret"),
        ("AUTH", "zqauthsecret"),
        ("AUTH", "default", "zquserauthsecret"),
        ("HELLO", "3", "AUTH", "default", "zqhellosecret"),
        ("ACL", "SETUSER", "somebody", "on", ">zqaclsecret"),
        ("CONFIG", "SET", "masterauth", "zqconfigsecret"),
        ("EVAL", "return redis.call('get', 'zqscriptsecret')", "0"),
        ("MSET", *(f"zqmanysecret{number}" for number in range(2000))),
    ]
    with redis.Redis(port=port, socket_timeout=10) as client:
        for words in commands:
            with contextlib.suppress(redis.RedisError):
                client.execute_command(*words)
    with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
        plain.sendall(b"PING zqinlinesecret\r\nSET zqinlinekeysecret zqinlinevaluesecret\r\n")
        time.sleep(0.2)
        plain.sendall(b"AUTH zqinlineauthsecret\r\n")
        time.sleep(0.2)
        assert plain.recv(65536)


def plant_memcached(port: int) -> None:
    client = Memcached(("127.0.0.1", port), timeout=5)
    client.set("zqkeysecret", b"zqvaluesecret", noreply=False)
    client.get("zqkeysecret")
    client.get_many(["zqkeysecret", "zqothersecret"])
    client.set("auth", b"user zqsaslsecret", noreply=False)
    client.close()


STATEMENTS = (
    "SELECT name FROM t WHERE name = 'zqliteralsecret' AND id = 7",
    'SELECT name FROM t WHERE name = "zqdoublesecret"',
    r"SELECT name FROM t WHERE name = 'it\'s zqescapedsecret'",
    "SELECT name FROM t WHERE name = 'it''s zqquotedsecret' OR name = N'zqnationalsecret'",
    "SELECT /* zqcommentsecret */ name FROM t -- zqdashsecret\n WHERE id = 1 # zqhashsecret",
    "INSERT INTO t VALUES (1001, 'zqinsertsecret'), (1002, 'zqmanysecret')",
    f"SELECT name FROM t WHERE name IN ({', '.join(['0'] * 300)}, '{'zqlongsecret ' * 300}')",
    f"SELECT '{' ' * 1000}zqbordersecret{' ' * 1000}', 'zqbehindsecret'",
    "SELECT 'zqopensecret",
    "CREATE USER planted IDENTIFIED BY 'zqcreatesecret'",
    "ALTER USER planted IDENTIFIED BY 'zqaltersecret'",
    "CREATE USER other PASSWORD 'zqpasswordsecret'",
    "SET PASSWORD FOR planted = PASSWORD('zqsetsecret')",
    "GRANT ALL ON shop.* TO planted IDENTIFIED BY 'zqgrantsecret'",
    "DROP USER planted",
)


def plant_mysql(database: Database) -> None:
    with contextlib.suppress(pymysql.Error):
        pymysql.connect(
            host="127.0.0.1", port=database.port, user="somebody", password="zqloginsecret"
        )
    with database.connect(database="shop") as connection, connection.cursor() as cursor:
        for statement in STATEMENTS:
            with contextlib.suppress(pymysql.Error):
                cursor.execute(statement)
        # Across the border of two packets of what the kernel reads at once.
        cursor.execute("SELECT %s", ("x" * 100_000 + "zqlargesecret",))


POSTGRESQL = (
    "SELECT name FROM t WHERE name = 'zqliteralsecret' AND id = 7",
    r"SELECT name FROM t WHERE name = E'it\'s zqescapedsecret'",
    "SELECT name FROM t WHERE name = 'it''s zqquotedsecret' OR name = U&'zqunicodesecret'",
    "SELECT $$zqdollarsecret$$, $tag$zqtag$$secret zqtaggedsecret$tag$",
    "SELECT /* zqcomment /* zqinnersecret */ zqoutersecret */ 1 -- zqdashsecret\n, 2",
    "INSERT INTO t VALUES (1001, 'zqinsertsecret'), (1002, 'zqmanysecret')",
    "SELECT 'zqfirst' 'zqsecondsecret', 'zqthird'\n'zqfourthsecret'",
    f"SELECT '{' ' * 1000}zqbordersecret{' ' * 1000}', 'zqbehindsecret'",
    "SELECT 'zqopensecret",
    'SELECT "zqopensecret',
    "CREATE USER planted PASSWORD 'zqcreatesecret'",
    "ALTER ROLE planted WITH ENCRYPTED PASSWORD 'zqaltersecret' VALID UNTIL 'infinity'",
    "DO $$ BEGIN PERFORM 'zqdosecret'; END $$",
    "SET application_name = 'zqsetsecret'",
    "DROP USER planted",
)


def plant_postgresql(database: postgres.Database) -> None:
    with contextlib.suppress(psycopg.Error):
        psycopg.connect(f"{database.url()}", password="zqloginsecret").close()
    with database.connect(autocommit=True) as connection:
        for statement in POSTGRESQL:
            with contextlib.suppress(psycopg.Error):
                connection.execute(statement)
        for prepare in (False, True):
            connection.execute("SELECT %s::text", ("zqparametersecret",), prepare=prepare)


@pytest.fixture
def planted(
    nginx: int,
    redis_port: int,
    memcached: int,
    mariadb: Database,
    postgresql: postgres.Database,
) -> Callable[[], None]:
    """Has all secrets go through their servers."""

    def plant() -> None:
        plant_http(nginx)
        plant_redis(redis_port)
        plant_memcached(memcached)
        plant_postgresql(postgresql)
        plant_mysql(mariadb)

    return plant


def exits(agent: Running, capture: Capture) -> dict[str, bytes]:
    """Returns all that an agent has said to anybody, by where."""
    said = {
        path: agent.get(path).encode()
        for path in ("/metrics", "/api/requests", "/api/requests/series", "/api/network")
    }
    said["log"] = agent.log.encode()
    for number, (path, body) in enumerate(capture.bodies):
        said[f"{path} {number}"] = body
    return said


def watch(directory: Path, capture: Capture, planted: Callable[[], None], *more: str) -> Running:
    """Returns an agent that has seen all secrets and said what it says of them."""
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": capture.url,
        "KERNOB_REQUESTS_SAMPLES_PER_SECOND": "10000",
        "KERNOB_LOG_LEVEL": "debug",
        "KERNOB_OTLP_INTERVAL": "0.5",
        "KERNOB_AGENT_INTERVAL": "0.2",
    }
    prefix = ("env", *(f"{name}={value}" for name, value in variables.items()), *more)
    agent = Running(directory, "--mode", "ebpf", prefix=prefix)
    agent.wait_until_it_answers()
    planted()
    wait_until(lambda: "SELECT" in operations(agent, "mysql"), "the last one")
    time.sleep(1)
    return agent


def operations(agent: Running, protocol: str) -> set[str]:
    found: list[dict[str, Any]] = json.loads(agent.get("/api/requests"))["requests"]
    return {
        str(one["attributes"].get("db.operation.name", one["operation"]))
        for one in found
        if one["protocol"] == protocol
    }


def test_no_secret_gets_out(planted: Callable[[], None], tmp_path: Path) -> None:
    with capturing() as capture:
        agent = watch(tmp_path, capture, planted)
        try:
            seen = {name: operations(agent, name) for name in ("http", "redis", "memcached")}
            statements = operations(agent, "mysql")
            queries = operations(agent, "postgresql")
            said = exits(agent, capture)
        finally:
            agent.stop()
        said |= {f"{path} {n}": body for n, (path, body) in enumerate(capture.bodies)}
        said["log"] = agent.log.encode()

    assert {
        name: found.group() for name, body in said.items() if (found := SECRET.search(body))
    } == {}
    # All of it was looked at, or there would be nothing to find.
    assert any("orders/{" in one for one in seen["http"])
    assert {"SET", "GET", "AUTH", "HELLO", "ACL", "CONFIG", "EVAL", "MSET"} <= seen["redis"]
    assert {"GET", "SET"} <= {one.upper() for one in seen["memcached"]}
    assert {"SELECT", "INSERT", "CREATE", "ALTER", "GRANT"} <= statements
    assert {"SELECT", "INSERT", "CREATE", "ALTER", "DO", "SET"} <= queries
    paths = [path for path, _ in capture.bodies]
    assert "/v1/traces" in paths
    assert "/v1/metrics" in paths


def test_without_texts_only_methods_commands_and_statuses_get_out(
    planted: Callable[[], None], tmp_path: Path
) -> None:
    with capturing() as capture:
        agent = watch(tmp_path, capture, planted, "KERNOB_REQUESTS_TEXTS=off")
        try:
            statements = operations(agent, "mysql")
            said = exits(agent, capture)
        finally:
            agent.stop()
        spans = capture.spans()

    assert {"SELECT", "INSERT", "CREATE"} <= statements
    assert any(one.attributes.get("http.request.method") == "GET" for one in spans)
    for name, body in said.items():
        assert not SECRET.search(body), name
        assert b"orders" not in body, name
        assert b"IDENTIFIED" not in body, name
    telling = {"http.route", "url.template", "db.query.text", "db.query.summary", "db.namespace"}
    assert not any(telling & one.attributes.keys() for one in spans)
