"""Nested values become the Collector's texts, wherever they stand, and none is missed."""

from __future__ import annotations

import random
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from kernob.store import nested
from kernob.store.engine import Signal
from kernob.store.store import Store
from store.otlp import SPAN, TRACE, Value, attributes, logs, one, sums, traces, value

# As `pcommon.Value.AsString` of the Collector writes them (pdata v1.55.0).
TEXTS: list[tuple[Value, str]] = [
    (["/usr/bin/python3", "-m", "shop"], '["/usr/bin/python3","-m","shop"]'),
    ([], "[]"),
    ({}, "{}"),
    ({"b": 1, "a": [True, None, 0.5, 3.0]}, '{"a":[true,null,0.5,3],"b":1}'),
    (["<a>&\n\"\\\u2028ä\x01"], '["\\u003ca\\u003e\\u0026\\n\\"\\\\\\u2028ä\\u0001"]'),
    (b"", ""),
    (b"\x00\xff\x10", "AP8Q"),
    ([b"\x00"], '["AA=="]'),
    ([float("nan")], ""),
    (float("nan"), "json: unsupported value: NaN"),
    (float("inf"), "json: unsupported value: +Inf"),
    (float("-inf"), "json: unsupported value: -Inf"),
    (1e21, "1e+21"),
    (-1.5e-7, "-1.5e-7"),
    (1.7976931348623157e308, "1.7976931348623157e+308"),
    (5e-324, "5e-324"),
    (["x" * 200], f'["{"x" * 200}"]'),
    (["x" * 20_000], f'["{"x" * 20_000}"]'),
    ([["x" * 126]], f'[["{"x" * 126}"]]'),
]  # fmt: skip
# Those that ClickHouse makes texts of itself.
PLAIN: list[tuple[Value, str]] = [
    ("", ""), ("[]", "[]"), ("x" * 300, "x" * 300), (None, ""), (True, "true"), (False, "false"),
    (0, "0"), (-1, "-1"), (2**63 - 1, str(2**63 - 1)), (-(2**63), str(-(2**63))),
    (0.0, "0"), (-0.0, "-0"), (0.1, "0.1"), (1e-6, "0.000001"), (1 / 3, "0.3333333333333333"),
    (123456.789, "123456.789"), (1e20, "1" + "0" * 20), (9.999999999999999e20, "9" * 16 + "00000"),
]  # fmt: skip


def test_values_are_texts_as_the_collector_writes_them(store: Store) -> None:
    everything = {f"k{number}": content for number, (content, _) in enumerate(TEXTS + PLAIN)}
    texts = [(f"k{number}", text) for number, (_, text) in enumerate(TEXTS + PLAIN)]

    store.write(Signal.TRACES, [traces({"attributes": attributes(everything)})])

    assert one(store, "SELECT SpanAttributes FROM otel.otel_traces") == texts


def test_each_place_of_attributes(store: Store) -> None:
    args = attributes({"a": ["x", 1]})
    span = {
        "attributes": args,
        "events": [{"attributes": args}],
        "links": [{"attributes": args}],
    }
    resource = {"service.name": "shop", "process.command_args": ["python", "x"]}
    exemplar = {"filtered_attributes": args}

    store.write(Signal.TRACES, [traces(span, resource=resource)])
    store.write(Signal.LOGS, [logs({"body": value({"k": [1]}), "attributes": args})])
    store.write(Signal.METRICS, [sums({"attributes": args, "exemplars": [exemplar]})])

    text = [("a", '["x",1]')]
    assert one(store, "SELECT SpanAttributes FROM otel.otel_traces") == text
    assert one(store, "SELECT Events.Attributes FROM otel.otel_traces") == [text]
    assert one(store, "SELECT Links.Attributes FROM otel.otel_traces") == [text]
    assert one(store, "SELECT ResourceAttributes FROM otel.otel_traces") == [
        ("service.name", "shop"), ("process.command_args", '["python","x"]'),
    ]  # fmt: skip
    assert one(store, "SELECT Body FROM otel.otel_logs") == '{"k":[1]}'
    assert one(store, "SELECT LogAttributes FROM otel.otel_logs") == text
    assert one(store, "SELECT Attributes FROM otel.otel_metrics_sum") == text
    assert one(store, "SELECT Exemplars.FilteredAttributes FROM otel.otel_metrics_sum") == [text]


MESSAGES: dict[Signal, Any] = {
    Signal.TRACES: ExportTraceServiceRequest,
    Signal.LOGS: ExportLogsServiceRequest,
    Signal.METRICS: ExportMetricsServiceRequest,
}


def _random(source: random.Random, depth: int = 0) -> Value:
    kinds = ["text", "int", "float", "bool", "bytes", "none"] + ["list", "dict"] * (depth < 3)
    kind = source.choice(kinds)
    size = source.choice((0, 1, 3, 10, 126, 130)) if depth == 0 else source.randrange(4)
    if kind == "text":
        # Text that looks like what is searched for.
        return "".join(source.choice("\x12*2:!\t\x02\x04x") for _ in range(size))
    if kind == "bytes":
        return bytes(source.choice(b"\x12*2:!\x09\x02\x80") for _ in range(size))
    if kind == "list":
        return [_random(source, depth + 1) for _ in range(min(size, 30))]
    if kind == "dict":
        return {f"k{n}": _random(source, depth + 1) for n in range(min(size, 30))}
    number = source.choice((0, 1, 300, 10**6, 2**40))
    return {"int": -number, "float": number * 1e12, "bool": bool(number), "none": None}[kind]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("signal", MESSAGES)
def test_no_value_is_missed_and_nothing_else_changes(signal: Signal, seed: int) -> None:
    source = random.Random(seed)
    bodies = []
    for _ in range(60):
        content = attributes({f"k{n}": _random(source) for n in range(source.randrange(8))})
        resource = {"r": _random(source), "service.name": "shop"}
        record = {"attributes": content}
        if signal == Signal.TRACES:
            record["events"] = [{"attributes": content, "name": "\x12\x02*"}]
            bodies.append(traces(record, record, resource=resource))
        elif signal == Signal.LOGS:
            bodies.append(logs(record | {"body": value(_random(source))}, resource=resource))
        else:
            bodies.append(sums(record, record, resource=resource, name="\x12\x03*\x01"))
    joined = b"".join(bodies)

    made = MESSAGES[signal].FromString(nested.to_text(signal, joined))

    expected = MESSAGES[signal].FromString(joined)
    _to_text(expected)
    assert made == expected


def _to_text(message: Any) -> None:
    """Does the same the slow way: by all fields of all messages."""
    if message.DESCRIPTOR.name == "AnyValue":
        kind = message.WhichOneof("value")
        double = abs(message.double_value)
        large = kind == "double_value" and double and not 1e-6 <= double < 1e21
        if kind in ("array_value", "kvlist_value", "bytes_value") or large:
            message.string_value = nested.text(message)
        return
    for field, content in message.ListFields():
        if field.message_type is not None:
            for item in content if field.is_repeated else [content]:
                _to_text(item)


def test_a_body_without_nested_values_is_left_as_it_is() -> None:
    plain = traces({"attributes": attributes({"a": "x", "b": 1, "c": 0.5})})

    assert nested.to_text(Signal.TRACES, plain) is plain


def test_identifiers_that_look_like_values_do_no_harm() -> None:
    # A span's trace_id with the bytes of an attribute that holds an array.
    look_alike = b"\x12\x04\x2a\x02\x0a\x00" + bytes(10)
    body = traces({"trace_id": look_alike, "span_id": SPAN}, {"trace_id": TRACE})

    assert nested.candidates(body)
    assert nested.to_text(Signal.TRACES, body) == body
