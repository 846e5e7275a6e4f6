"""What rows of the kernel's table are called: attributes of the semantic conventions."""

from __future__ import annotations

import pytest

from kernob.protocols import dns, http, memcached, mysql, postgresql, redis, sql
from kernob.protocols.naming import Operation
from kernob.protocols.registry import PROTOCOLS
from kernob.signals.requests import PROTOCOLS as NUMBERS
from protocols.host import protocols


def operation(
    text: str, status: int = 0, *, namespace: str = "", server: bool = False
) -> Operation:
    return Operation(text=text, status=status, namespace=namespace, server=server)


def test_each_protocol_of_the_kernel_has_its_names() -> None:
    assert {number: known.name for number, known in PROTOCOLS.items()} == dict(
        enumerate(NUMBERS[1:], 1)
    )
    assert (
        protocols().items() <= {known.name: number for number, known in PROTOCOLS.items()}.items()
    )


def test_http_as_server_and_client() -> None:
    asked = operation("GET /users/{id} HTTP/1.1", 404, server=True)
    assert http.attributes(asked) == {
        "http.request.method": "GET",
        "http.route": "/users/{id}",
        "http.response.status_code": 404,
        "network.protocol.version": "1.1",
    }
    asking = operation("GET /users/{id} HTTP/1.0", 404)
    assert http.attributes(asking) == {
        "http.request.method": "GET",
        "url.template": "/users/{id}",
        "http.response.status_code": 404,
        "network.protocol.version": "1.0",
        "error.type": "404",
    }


@pytest.mark.parametrize(
    ("text", "method"),
    [("BREW /pot HTTP/1.1", "_OTHER"), ("", "_OTHER"), ("PUT / HTTP/1.1", "PUT")],
)
def test_odd_methods_are_other(text: str, method: str) -> None:
    assert http.attributes(operation(text, 200))["http.request.method"] == method


def test_an_error_of_a_server_is_one() -> None:
    assert http.attributes(operation("GET / HTTP/1.1", 503, server=True))["error.type"] == "503"
    assert "error.type" not in http.attributes(operation("GET / HTTP/1.1", 499, server=True))


def packed(word: str) -> int:
    """As the kernel packs the first six letters of an error."""
    return sum((ord(letter) - 64) << 5 * place for place, letter in enumerate(word[:6]))


@pytest.mark.parametrize("word", redis.ERRORS)
def test_every_known_error_of_redis_is_told_by_six_letters(word: str) -> None:
    found = redis.error(packed(word))

    assert found[:6] == word[:6]
    assert found in redis.ERRORS


def test_redis() -> None:
    assert redis.error(0) == ""
    assert redis.error(packed("MYOWN")) == "MYOWN"
    assert redis.attributes(operation("GET", packed("WRONGTYPE"), namespace="3")) == {
        "db.system.name": "redis",
        "db.operation.name": "GET",
        "db.query.summary": "GET",
        "db.namespace": "3",
        "db.response.status_code": "WRONGTYPE",
        "error.type": "WRONGTYPE",
    }


@pytest.mark.parametrize(
    ("text", "name", "summary"),
    [
        ("SELECT * FROM users WHERE id = ?", "SELECT", "SELECT users"),
        ("select a from s.t join u on a = b", "SELECT", "SELECT s.t u"),
        ('SELECT "u"."id" FROM "public"."users" "u"', "SELECT", "SELECT public.users"),
        ("INSERT INTO `orders` (a) VALUES (?)", "INSERT", "INSERT orders"),
        ("UPDATE ONLY t SET a = ?", "UPDATE", "UPDATE t"),
        ("(SELECT a FROM t) UNION (SELECT b FROM t)", "SELECT", "SELECT t"),
        ("CREATE TABLE IF NOT EXISTS x (a int)", "CREATE", "CREATE x"),
        ("DELETE FROM t WHERE a IN (?)", "DELETE", "DELETE t"),
        ("BEGIN", "BEGIN", "BEGIN"),
        ("SELECT ?", "SELECT", "SELECT"),
        ("", "", ""),
        ("?", "", ""),
        ("SELECT a FROM (SELECT b FROM inner_table) x", "SELECT", "SELECT inner_table"),
        ("SELECT a FROM", "SELECT", "SELECT"),
    ],
)
def test_sql(text: str, name: str, summary: str) -> None:
    assert sql.operation_name(text) == name
    assert sql.summary(text) == summary


def test_a_summary_is_bounded() -> None:
    assert len(sql.summary("SELECT a FROM " + ", ".join(f"JOIN t{n}" for n in range(900)))) <= 255


@pytest.mark.parametrize("code", ["42P01", "00000", "ZZZZZ", "23505", "XX000"])
def test_sqlstates_come_back(code: str) -> None:
    assert postgresql.sqlstate(int(code, 36) + 1) == code


def test_postgresql() -> None:
    found = postgresql.attributes(
        operation("SELECT a FROM t WHERE b = ?", int("42P01", 36) + 1, namespace="shop")
    )
    assert found == {
        "db.system.name": "postgresql",
        "db.operation.name": "SELECT",
        "db.query.summary": "SELECT t",
        "db.query.text": "SELECT a FROM t WHERE b = ?",
        "db.namespace": "shop",
        "db.response.status_code": "42P01",
        "error.type": "42P01",
    }
    assert postgresql.attributes(operation("")) == {"db.system.name": "postgresql"}


def test_mysql() -> None:
    found = mysql.attributes(operation("SELECT a FROM t", 1146))
    assert found["db.response.status_code"] == found["error.type"] == "1146"
    assert "db.query.text" not in mysql.attributes(operation("PING"))


def test_memcached_answers_that_are_no_errors() -> None:
    for status in memcached.ANSWERS:
        assert "error.type" not in memcached.attributes(operation("get", status))
    for status, word in memcached.ERRORS.items():
        assert memcached.attributes(operation("set", status))["error.type"] == word
    assert memcached.attributes(operation("set", 0x77))["error.type"] == "_OTHER"


@pytest.mark.parametrize(
    ("status", "error"),
    [(0, None), (2, "SERVFAIL"), (3, "NXDOMAIN"), (17, "17"), (256, "timeout"), (257, None)],
)
def test_dns(status: int, error: str | None) -> None:
    found = dns.attributes(operation("AAAA www.example.org", status))

    assert found["dns.question.name"] == "www.example.org"
    assert found["kernob.dns.question.type"] == "AAAA"
    assert found.get("error.type") == error
