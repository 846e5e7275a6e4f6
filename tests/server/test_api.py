"""The API over real HTTP."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import uvicorn

from kernob import config
from kernob.access import Access
from kernob.queries import model, model_requests
from kernob.server import api
from kernob.server.itself import Figure
from kernob.store.store import Store
from servers import free_port
from snapshots import Sender, asked, itself, moved, send

SLOW = "SELECT count() FROM system.numbers WHERE sipHash64(number) = 1"


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serves an application in a thread; yields its URL."""
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(app, port=port, log_config=None, lifespan="off", ws="none")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    opened = Store.open(config.Store(path=tmp_path_factory.mktemp("store")))
    now = time.time_ns() // 1_000_000
    agent = Sender("web-1", now - 60_000)
    send(
        opened,
        *(
            agent.snapshot(
                now - 60_000 + at * 2000,
                *moved("shop", 5000 * at, 700 * at),
                *moved('it\'s "é"', at),
                *itself(at),
                asked("shop", (0.01,) * at),
            )
            for at in range(1, 30)
        ),
    )
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def url(store: Store) -> Iterator[str]:
    figures = [Figure("kernob.server.records", "{record}", 7, {"kernob.signal": "logs"})]
    with serving(api.make_app(store, None, lambda: figures, 5_000_000)) as address:
        yield address


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, trust_env=False, timeout=40) as made:
        yield made


def running(store: Store) -> int:
    found = store.reader().read(
        "SELECT count() AS n FROM system.processes WHERE query LIKE '%sipHash64(number) = 1%' "
        "AND query NOT LIKE '%system.processes%'"
    )
    return int(found["n"][0].as_py())


def wait_for(condition: Any, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


# -- pages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/api/traffic", model.Traffic),
        ("/api/traffic?by=process&from=now-3h&to=now-1m", model.Traffic),
        ("/api/traffic?by=peer&service=shop&host=web-1&peer=10.0.0.1&q=sho", model.Traffic),
        ("/api/overview", model.Overview),
        ("/api/agents?host=web-1", model.Agents),
        ("/api/requests?service=shop&side=server&by=operation", model_requests.Requests),
        ("/api/requests?by=peer&host=web-1&limit=1", model_requests.Requests),
        ("/api/service?name=shop", model_requests.Service),
        (
            "/api/service?name=shop&side=client&operation=http%20GET%20/&peer=x",
            model_requests.Service,
        ),
        ("/api/search?q=shop", model.Search),
        ("/api/server", model.Server),
    ],
)
def test_pages_have_their_twins(client: httpx.Client, path: str, kind: type) -> None:
    answer = client.get(path)

    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    # As the pages decode it, and nothing is in it that the type does not have.
    decoded = msgspec.json.decode(answer.content, type=kind)
    assert msgspec.json.decode(msgspec.json.encode(decoded)) == answer.json()


def test_traffic_is_what_was_sent(client: httpx.Client) -> None:
    answer = client.get("/api/traffic", params={"limit": 1, "top": 1}).json()

    assert [(row["name"], row["transmit"], row["receive"]) for row in answer["rows"]] == [
        ("shop", 29 * 5000, 29 * 700)
    ]
    assert answer["rows_left_off"] == 1
    assert [line["name"] for line in answer["lines"]] == ["shop", "others"]
    assert answer["transmit"] == 29 * 5001
    assert len(answer["lines"][0]["transmit"]) == len(answer["times"])


def test_texts_are_never_sql(client: httpx.Client) -> None:
    name = 'it\'s "é"'
    for text in (name, "\\", "%", "') OR 1 --", "\t\n"):
        answer = client.get("/api/traffic", params={"service": text})
        assert answer.status_code == 200
        assert [r["name"] for r in answer.json()["rows"]] == ([name] if text == name else [])


def test_the_server_tells_about_itself(client: httpx.Client) -> None:
    answer = client.get("/api/server").json()

    assert answer["started"] == 5
    assert answer["figures"][0]["attributes"] == {"kernob.signal": "logs"}


def test_large_answers_are_packed(client: httpx.Client) -> None:
    assert client.get("/api/traffic").headers["content-encoding"] == "gzip"
    plain = client.get("/api/traffic", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert "content-encoding" not in client.get("/api/server").headers


def test_health_and_readiness(client: httpx.Client) -> None:
    assert client.get("/health").text == client.get("/ready").text == "ok\n"


def test_a_store_that_does_not_answer_is_not_ready() -> None:
    class Gone:
        def reader(self, *_: object) -> Any:
            raise api.KernobError("the store is gone")

    with serving(api.make_app(Gone())) as address:  # type: ignore[arg-type]
        answer = httpx.get(f"{address}/ready", trust_env=False)
    assert answer.status_code == 503
    assert answer.json()["detail"] == "the store is gone"


def test_openapi_describes_all_of_it(client: httpx.Client) -> None:
    document = client.get("/api/openapi.json").json()

    assert set(document["paths"]) == {
        *("/api/overview", "/api/traffic", "/api/agents", "/api/search", "/api/server"),
        *("/api/requests", "/api/service", "/api/query", "/health", "/ready"),
    }
    for path, methods in document["paths"].items():
        for method in methods.values():
            assert method["summary"], path
            assert method["description"], path
            assert all(p["description"] for p in method.get("parameters", []))
            if path.startswith("/api/"):
                assert "application/problem+json" in method["responses"]["422"]["content"]
    names = {p["name"] for p in document["paths"]["/api/traffic"]["get"]["parameters"]}
    assert names == {
        *("from", "to", "by", "service", "process", "host", "peer", "q", "direction"),
        *("limit", "top"),
    }
    assert client.get("/docs").status_code == 404


# -- problems ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status", "detail"),
    [
        ("GET", "/api/nothing", 404, "there is nothing at /api/nothing"),
        ("PUT", "/api/query", 405, "PUT is not for /api/query"),
        ("GET", "/api/traffic?by=colour", 422, "query/by"),
        ("GET", "/api/traffic?limit=0", 422, "query/limit"),
        ("GET", "/api/traffic?from=yesterday", 422, "'yesterday' is no time"),
        ("GET", "/api/traffic?from=now&to=now-1h", 422, "ends before it starts"),
        ("GET", "/api/traffic?process=4242", 422, "'4242' is no process"),
        ("GET", f"/api/search?q={'a' * 300}", 422, "query/q"),
    ],
)
def test_mistakes_are_problems(
    client: httpx.Client, method: str, path: str, status: int, detail: str
) -> None:
    answer = client.request(method, path)

    assert answer.status_code == answer.json()["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert detail in answer.json()["detail"]
    assert answer.json()["title"]


def test_without_the_token_nothing_is_told(store: Store, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret")
    access = Access("127.0.0.1:0", token_file=tmp_path / "token")
    with serving(api.make_app(store, access)) as address:
        for path in ("/api/traffic", "/api/openapi.json", "/api/server"):
            refused = httpx.get(f"{address}{path}", trust_env=False)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == "Bearer"
        assert httpx.post(f"{address}/api/query", trust_env=False).status_code == 401
        right = {"authorization": "Bearer secret"}
        assert httpx.get(f"{address}/api/server", headers=right, trust_env=False).is_success
        assert httpx.get(f"{address}/health", trust_env=False).is_success


# -- SQL -----------------------------------------------------------------------------------------


def ask(client: httpx.Client, query: str, **more: Any) -> httpx.Response:
    return client.post("/api/query", json={"query": query, **more})


def test_sql_is_answered_with_types(client: httpx.Client) -> None:
    answer = ask(
        client,
        "SELECT toUInt64(9007199254740993) AS big, 'é\"' AS text, toDateTime('2026-11-21 15:00:00',"
        " 'UTC') AS time, map('a', 1) AS map, [1.5] AS list, NULL AS nothing, 0/0 AS nan -- why\n;",
    ).json()

    assert answer["columns"] == ["big", "text", "time", "map", "list", "nothing", "nan"]
    assert answer["types"][:3] == ["UInt64", "String", "DateTime('UTC')"]
    assert answer["rows"] == [
        ["9007199254740993", 'é"', "2026-11-21 15:00:00", {"a": 1}, [1.5], None, None]
    ]
    assert answer["truncated"] is False
    msgspec.convert(answer, model.Table)


def test_sql_reads_the_tables(client: httpx.Client) -> None:
    answer = ask(client, "SELECT DISTINCT Host, Service FROM kernob_series ORDER BY 2 DESC").json()

    assert answer["rows"][0] == ["web-1", "shop"]


def test_rows_beyond_the_limit_are_left_off_and_said(client: httpx.Client) -> None:
    answer = ask(client, "SELECT number AS n FROM numbers(10)", limit=3).json()

    assert answer["rows"] == [["0"], ["1"], ["2"]]
    assert answer["truncated"] is True
    assert ask(client, "SELECT 1 AS n WHERE 0").json()["rows"] == []


def test_bytes_that_are_no_text_are_replaced(client: httpx.Client) -> None:
    assert ask(client, "SELECT unhex('ff41') AS text").json()["rows"] == [["\ufffdA"]]


@pytest.mark.parametrize(
    "query",
    [
        *("", "DROP TABLE otel_logs", "INSERT INTO otel_logs SELECT * FROM otel_logs"),
        *("SELECT 1; DROP TABLE otel_logs", "SELECT 1) ; DROP TABLE otel_logs ; SELECT (1"),
        *("SELECT 1) UNION ALL (SELECT 2", "SELECT 1 /*", "SELECT '", "SELECT 1 FORMAT CSV"),
        *("SELECT 1 INTO OUTFILE '/tmp/kernob'", "SELECT 1 SETTINGS readonly = 0"),
        *("SELECT 1 SETTINGS max_execution_time = 0", "SELECT 1 settings\nfinal, max_threads=9"),
        "SELECT (SELECT 1 SETTINGS/**/max_memory_usage/**/=/**/0)",
        "SELECT 1 SETTINGS `max_execution_time` = 0",
        "SYSTEM SHUTDOWN",
        "SET readonly = 0",
        "KILL QUERY WHERE 1",
        "SELECT * FROM default.`/etc/passwd`",
        "SELECT * FROM `/etc/passwd`",
        "SELECT file('/etc/passwd')",
        "SELECT 1 IN file('/etc/passwd', 'LineAsString')",
        *(
            f"SELECT * FROM {source}"
            for source in (
                "file('/etc/passwd', 'LineAsString')",
                "filesystem('/etc')",
                "url('http://127.0.0.1:1/', 'CSV', 'a String')",
                "urlCluster('default', 'http://127.0.0.1:1/', 'CSV', 'a String')",
                "s3('http://127.0.0.1:1/bucket/key', 'CSV', 'a String')",
                "s3Cluster('default', 'http://127.0.0.1:1/bucket/key', 'CSV', 'a String')",
                "gcs('http://127.0.0.1:1/bucket/key', 'CSV', 'a String')",
                "oss('http://127.0.0.1:1/bucket/key', 'CSV', 'a String')",
                "cosn('http://127.0.0.1:1/bucket/key', 'CSV', 'a String')",
                "hudi('http://127.0.0.1:1/bucket/key')",
                "remote('127.0.0.1:1', 'system', 'one')",
                "remoteSecure('127.0.0.1:1', 'system', 'one')",
                "cluster('default', 'system', 'one')",
                "clusterAllReplicas('default', 'system', 'one')",
                "mysql('127.0.0.1:1', 'a', 'b', 'c', 'd')",
                "postgresql('127.0.0.1:1', 'a', 'b', 'c', 'd')",
                "mongodb('127.0.0.1:1', 'a', 'b', 'c', 'd', 'a String')",
                "redis('127.0.0.1:1', 'key', 'key String')",
                "jdbc('a', 'b')",
                "odbc('a', 'b')",
                "sqlite('/tmp/kernob.db', 'a')",
                "hdfs('hdfs://127.0.0.1:1/a', 'CSV', 'a String')",
                "azureBlobStorage('a', 'b', 'c')",
                "deltaLake('http://127.0.0.1:1/bucket/key')",
                "iceberg('http://127.0.0.1:1/bucket/key')",
                "ytsaurus('http://127.0.0.1:1', '//a', 'token', 'a String')",
                "arrowFlight('127.0.0.1:1', 'a')",
                "executable('cat', 'CSV', 'a String')",
                "input('a String')",
                "dictionary('a')",
                "loop(system.one)",
                "Python(store)",
                "python('import os')",
            )
        ),
    ],
)
def test_sql_can_only_read_the_store(client: httpx.Client, query: str) -> None:
    answer = ask(client, query)

    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"]
    assert ask(client, "SELECT count() AS n FROM otel_logs").json()["rows"] == [["0"]]


def test_every_source_of_this_clickhouse_is_one_that_was_thought_of(client: httpx.Client) -> None:
    """A table function that a new release brings is to be looked at before it is let in."""
    harmless = {
        *("numbers", "numbers_mt", "zeros", "zeros_mt", "generateSeries", "generate_series"),
        *("primes", "values", "SQLStandardValues", "null", "view", "viewIfPermitted"),
        *("viewExplain", "generateRandom", "format", "fuzzQuery", "fuzzJSON"),
        # Of tables that are in the store anyway.
        *("merge", "mergeTreeIndex", "mergeTreeProjection", "mergeTreeTextIndex"),
        *("mergeTreeAnalyzeIndexes", "mergeTreeAnalyzeIndexesUUID", "timeSeriesData"),
        *("timeSeriesTags", "timeSeriesMetrics", "timeSeriesSelector", "prometheusQuery"),
        "prometheusQueryRange",
    }
    refused = {
        *("file", "fileCluster", "filesystem", "url", "urlCluster", "s3", "s3Cluster", "gcs"),
        *("oss", "cosn", "hudi", "hudiCluster", "remote", "remoteSecure", "cluster"),
        *("clusterAllReplicas", "redis", "jdbc", "odbc", "ytsaurus", "executable", "input"),
        *("dictionary", "loop", "python"),
    }

    found = ask(client, "SELECT name FROM system.table_functions").json()["rows"]

    assert {name for (name,) in found} <= harmless | refused


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 422),
        (b"{}", 422),
        (b'{"query": 5}', 422),
        (b'{"query": "SELECT 1", "limit": "all"}', 422),
        (b'{"query": "' + b"a" * (200 << 10) + b'"}', 413),
        (b'{"query": "SELECT ' + b"(" * 60_000 + b'"}', 422),
        (b'{"query": "SELECT ' + b"(" * 20_000 + b"1" + b")" * 20_000 + b'"}', 422),
    ],
    ids=[
        *("none", "cut", "list", "empty", "number", "limit", "large", "open", "deep"),
    ],
)
def test_bodies_that_are_no_question(client: httpx.Client, body: bytes, status: int) -> None:
    answer = client.post("/api/query", content=body)

    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_memory_and_time_are_limited(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "SQL_LIMITS", api.Limits(seconds=0.3, memory=20 << 20, rows=100))

    slow = ask(client, SLOW)
    large = ask(client, "SELECT length(groupArray(number)) AS n FROM numbers(100000000)")

    for answer in (slow, large):
        assert answer.status_code == 422
        assert answer.json()["remedy"].startswith("ask for less")


# -- many, and those who leave ---------------------------------------------------------------------


def leave(url: str, body: bytes) -> socket.socket:
    """Asks, and returns the connection without reading the answer."""
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    connection.sendall(
        b"POST /api/query HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    return connection


def test_a_query_ends_when_whoever_asked_leaves(store: Store, url: str) -> None:
    connection = leave(url, msgspec.json.encode({"query": SLOW}))
    wait_for(lambda: running(store) == 1, 10)

    connection.close()

    wait_for(lambda: running(store) == 0, 1)


def test_too_many_questions_wait_and_are_then_sent_away(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "PATIENCE", 0.2)
    body = msgspec.json.encode({"query": SLOW})
    slow = [leave(url, body) for _ in range(api.QUERIES)]
    wait_for(lambda: running(store) == api.QUERIES, 20)

    refused = httpx.get(f"{url}/api/traffic", trust_env=False)
    ready = httpx.get(f"{url}/ready", trust_env=False, timeout=20)

    for connection in slow:
        connection.close()
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert ready.status_code == 200
    wait_for(lambda: running(store) == 0, 2)
    assert httpx.get(f"{url}/api/traffic", trust_env=False, timeout=20).status_code == 200
