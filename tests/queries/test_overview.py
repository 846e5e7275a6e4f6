import time

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from kernob.queries.model import AgentRow, Agents, Provenance, Range, Refusals, RefusedRow
from kernob.queries.overview import findings, overview
from kernob.store.engine import Signal
from kernob.store.store import Store
from snapshots import Point, Sender, itself, moved, send

NOW = time.time_ns() // 10**9 * 1000
RANGE = Range(NOW - 600_000, NOW, 10_000, "points", 10_000)


def test_a_store_of_nothing_is_empty(store: Store) -> None:
    server = Sender("a", NOW - 1000, service="kernob-server")
    send(store, server.snapshot(NOW, Point("kernob.server.records", 5)))

    found = overview(store.reader(), RANGE, NOW)

    assert found.empty
    assert (found.hosts, found.busy, found.findings, found.senders) == ([], [], [], [])


def test_hosts_busy_services_and_senders(store: Store) -> None:
    agent, shop = Sender("web-1", NOW - 300_000), Sender("", NOW, service="shop")
    send(
        store,
        *(
            agent.snapshot(
                NOW - (19 - at) * 10_000,
                *moved("shop", at * 1000, at * 500),
                *moved("mail", at * 50),
                *moved("idle", 7),
                *itself(at + 1, lost={"bytes_lost": at}),
            )
            for at in range(20)
        ),
        shop.snapshot(NOW - 5000, Point("orders", 1), Point("carts", 1)),
    )
    spans = ExportTraceServiceRequest()
    of = spans.resource_spans.add()
    of.resource.attributes.add(key="service.name").value.string_value = "shop"
    scope = of.scope_spans.add()
    scope.spans.add(trace_id=b"a" * 16, span_id=b"b" * 8, start_time_unix_nano=(NOW - 9) * 10**6)
    store.write(Signal.TRACES, [spans.SerializeToString()])

    found = overview(store.reader(), RANGE, NOW)

    assert not found.empty
    (host,) = found.hosts
    assert (host.host, host.state, host.services) == ("web-1", "ok", 3)
    assert (host.transmit_rate, host.receive_rate) == (105.0, 50.0)
    assert len(host.line) == len(found.times)
    assert [row.name for row in found.busy] == ["shop", "mail"]
    assert [line.name for line in found.lines] == ["shop", "mail", "idle"]
    assert [(s.service, s.points, s.spans, s.logs) for s in found.senders] == [("shop", 2, 1, 0)]
    assert [f.text for f in found.findings] == [
        "The agent on web-1 could not count everything: bytes_lost, 18 times."
    ]


def test_a_host_that_moves_bytes_without_an_agent_has_none(store: Store) -> None:
    collector = Sender("app-1", NOW - 300_000, service="otelcol")
    send(store, *(collector.snapshot(NOW - 10_000 * at, *moved("shop", 9)) for at in range(9)))

    found = overview(store.reader(), RANGE, NOW)

    assert [(host.host, host.state) for host in found.hosts] == [("web-1", "ok"), ("app-1", "none")]
    assert not any("app-1" in finding.text for finding in found.findings)


def row(**more: object) -> AgentRow:
    usual = dict.fromkeys(AgentRow.__slots__, 0) | {
        "host": "a b",
        "state": "ok",
        "last": NOW,
        "lost": {},
        "fill": {},
    }
    return AgentRow(**usual | more)  # type: ignore[arg-type]


def test_what_is_wrong_is_said_worst_first() -> None:
    rows = [
        row(fill={"flows": (95, 100), "exits": (1, 100)}),
        row(state="late", last=NOW - 12_000),
        row(state="gone", last=NOW - 3_600_000),
        row(),
    ]
    refused = [
        RefusedRow("logs", "it is not OTLP", 1, None, NOW),
        RefusedRow("traces", "too old", None, 1234, NOW),
    ]
    heard = Agents(RANGE, [], rows, Refusals(None, refused), Provenance())

    found = findings(heard, NOW)

    assert [(f.severity, f.text) for f in found] == [
        ("bad", "The agent on a b has been silent for 60 min: see whether it still runs."),
        ("attention", "The table flows on a b is nearly full (95 of 100): raise network.flows."),
        ("attention", "The agent on a b is late: its last snapshot is 12 s old."),
        (
            "attention",
            "The server refused 1 request (logs: it is not OTLP): see what their sender logs.",
        ),
        (
            "attention",
            "The server refused 1,234 records (traces: too old): see what their sender logs.",
        ),
    ]
    assert found[0].link == "/agents?host=a%20b"
