"""OTLP/JSON becomes the bytes that the same in protobuf would be."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import (
    ExportProfilesServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from kernob.errors import MalformedError
from kernob.server.otlp_json import from_message, to_message

# In the shape of the examples of opentelemetry-proto (`examples/*.json`): one resource, one scope,
# ids in upper case, times as numbers.
RESOURCE = {"attributes": [{"key": "service.name", "value": {"stringValue": "my.service"}}]}
SCOPE = {
    "name": "my.library",
    "version": "1.0.0",
    "attributes": [{"key": "my.scope.attribute", "value": {"stringValue": "some"}}],
}
TIME = 1544712660300000000
TRACE = "5B8EFFF798038103D269B633813FC60C"
SPAN = "EEE19B7EC3C1B174"


def of(kind: str, scopes: str, records: str, *given: dict[str, Any]) -> dict[str, Any]:
    """Returns a request with these records."""
    return {kind: [{"resource": RESOURCE, scopes: [{"scope": SCOPE, records: list(given)}]}]}


def attribute(key: str, **value: object) -> dict[str, Any]:
    return {"key": key, "value": value}


def test_a_span() -> None:
    span = {
        "traceId": TRACE,
        "spanId": SPAN,
        "parentSpanId": "eee19b7ec3c1b173",
        "name": "I'm a server span",
        "startTimeUnixNano": TIME,
        "endTimeUnixNano": str(TIME + 1),
        "kind": 2,
        "attributes": [attribute("my.span.attr", stringValue="some value")],
        "links": [{"traceId": TRACE, "spanId": SPAN}],
        "status": {"code": 2, "message": "no"},
    }
    body = json.dumps(of("resourceSpans", "scopeSpans", "spans", span)).encode()

    request = to_message(body, ExportTraceServiceRequest)

    expected = ExportTraceServiceRequest()
    group = expected.resource_spans.add()
    group.resource.attributes.add(key="service.name").value.string_value = "my.service"
    inner = group.scope_spans.add()
    inner.scope.name, inner.scope.version = "my.library", "1.0.0"
    inner.scope.attributes.add(key="my.scope.attribute").value.string_value = "some"
    made = inner.spans.add(
        trace_id=bytes.fromhex(TRACE),
        span_id=bytes.fromhex(SPAN),
        parent_span_id=bytes.fromhex("EEE19B7EC3C1B173"),
        name="I'm a server span",
        start_time_unix_nano=TIME,
        end_time_unix_nano=TIME + 1,
        kind=2,
    )
    made.attributes.add(key="my.span.attr").value.string_value = "some value"
    made.links.add(trace_id=bytes.fromhex(TRACE), span_id=bytes.fromhex(SPAN))
    made.status.code, made.status.message = 2, "no"
    assert request.SerializeToString() == expected.SerializeToString()


def test_metrics_of_all_kinds() -> None:
    point = {"startTimeUnixNano": TIME, "timeUnixNano": str(TIME)}
    exemplar = {"traceId": TRACE, "spanId": SPAN, "asInt": "-5", "timeUnixNano": TIME}
    buckets = {"count": "2", "sum": 2, "bucketCounts": [1, "1"], "explicitBounds": [1]}
    wide = {"scale": 3, "zeroCount": 1, "positive": {"offset": -2, "bucketCounts": ["1", 2]}}
    quantiles = [{"quantile": 0.5, "value": "NaN"}]
    body = of(
        "resourceMetrics", "scopeMetrics", "metrics",
        {"name": "sum", "unit": "1", "sum": {
            "aggregationTemporality": 1, "isMonotonic": True,
            "dataPoints": [{**point, "asDouble": 5, "exemplars": [exemplar]}]}},
        {"name": "gauge", "gauge": {"dataPoints": [{**point, "asInt": "9007199254740993"}]}},
        {"name": "histogram", "histogram": {
            "aggregationTemporality": 2, "dataPoints": [{**point, **buckets, "min": 0}]}},
        {"name": "wide", "exponentialHistogram": {"dataPoints": [{**point, **wide}]}},
        {"name": "summary", "summary": {"dataPoints": [{**point, "quantileValues": quantiles}]}},
    )  # fmt: skip

    request = to_message(json.dumps(body).encode(), ExportMetricsServiceRequest)

    made = {m.name: m for m in request.resource_metrics[0].scope_metrics[0].metrics}
    total = made["sum"].sum
    assert (total.aggregation_temporality, total.is_monotonic) == (1, True)
    assert total.data_points[0].as_double == 5
    assert total.data_points[0].exemplars[0].trace_id.hex().upper() == TRACE
    assert total.data_points[0].exemplars[0].as_int == -5
    assert made["gauge"].gauge.data_points[0].as_int == 2**53 + 1
    assert made["gauge"].gauge.data_points[0].time_unix_nano == TIME
    assert list(made["histogram"].histogram.data_points[0].bucket_counts) == [1, 1]
    assert made["histogram"].histogram.data_points[0].HasField("min")
    wide_point = made["wide"].exponential_histogram.data_points[0]
    assert (wide_point.positive.offset, list(wide_point.positive.bucket_counts)) == (-2, [1, 2])
    value = made["summary"].summary.data_points[0].quantile_values[0].value
    assert value != value  # noqa: PLR0124  (NaN)


def test_a_log_record_with_values_of_all_kinds() -> None:
    values = [
        attribute("text", stringValue="ä\u2028\U0001f600"),
        attribute("flag", boolValue=True),
        attribute("number", intValue="-10"),
        attribute("ratio", doubleValue=637.704),
        attribute("many", arrayValue={"values": [{"stringValue": "a"}, {"intValue": 1}]}),
        attribute("map", kvlistValue={"values": [attribute("traceId", stringValue="no id")]}),
        attribute("bytes", bytesValue="aGk="),
        attribute("empty"),
    ]
    record = {"timeUnixNano": TIME, "traceId": TRACE, "spanId": "", "body": {"stringValue": "b"}}
    body = of("resourceLogs", "scopeLogs", "logRecords", record | {"attributes": values})

    request = to_message(json.dumps(body).encode(), ExportLogsServiceRequest)

    made = request.resource_logs[0].scope_logs[0].log_records[0]
    found = {item.key: item.value for item in made.attributes}
    assert (made.trace_id.hex().upper(), made.span_id) == (TRACE, b"")
    assert found["text"].string_value == "ä\u2028\U0001f600"
    assert found["flag"].bool_value is True
    assert found["number"].int_value == -10
    assert found["ratio"].double_value == 637.704
    assert [v.WhichOneof("value") for v in found["many"].array_value.values] == [
        "string_value", "int_value",
    ]  # fmt: skip
    assert found["map"].kvlist_value.values[0].value.string_value == "no id"
    assert found["bytes"].bytes_value == b"hi"
    assert found["empty"].WhichOneof("value") is None


def test_a_profile() -> None:
    profile = {"profileId": TRACE, "timeUnixNano": str(TIME), "originalPayload": "aGk="}
    body = of("resourceProfiles", "scopeProfiles", "profiles", profile) | {
        "dictionary": {"linkTable": [{"traceId": TRACE, "spanId": SPAN}], "stringTable": ["", "x"]}
    }

    request = to_message(json.dumps(body).encode(), ExportProfilesServiceRequest)

    made = request.resource_profiles[0].scope_profiles[0].profiles[0]
    assert (made.profile_id.hex().upper(), made.original_payload) == (TRACE, b"hi")
    assert request.dictionary.link_table[0].span_id.hex().upper() == SPAN


def test_unknown_names_are_ignored_and_protobufs_own_names_are_unknown() -> None:
    record = {"newField": {"a": [1]}, "severity_text": "no", "severityText": "yes", "body": None}
    body = of("resourceLogs", "scopeLogs", "logRecords", record) | {"future": 1, "x_y": []}

    request = to_message(json.dumps(body).encode(), ExportLogsServiceRequest)

    made = request.resource_logs[0].scope_logs[0].log_records[0]
    assert (made.severity_text, made.HasField("body")) == ("yes", False)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"1",
        b"[]",
        b'"x"',
        b'{"a":1}x',
        b"\xff{}",
        b'{"resourceLogs":{}}',
        b'{"resourceLogs":[1]}',
        b'{"resourceLogs":[null]}',
        b'{"resourceLogs":"x"}',
        b'{"resourceLogs":[{"schemaUrl":1}]}',
        b'{"resourceLogs":[{"schemaUrl":"\\ud800"}]}',
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"traceId":"xyz"}]}]}]}',
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"traceId":5}]}]}]}',
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":-1}]}]}]}',
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":1e300}]}]}]}',
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"flags":4294967296}]}]}]}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"resourceLogs":' + b"[" * 500 + b"]" * 500 + b"}",
    ],
)
def test_what_is_none_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedError):
        to_message(body, ExportLogsServiceRequest)


def test_values_nested_too_deeply_are_malformed() -> None:
    def nested(depth: int) -> bytes:
        value: dict[str, Any] = {"stringValue": "x"}
        for _ in range(depth):
            value = {"arrayValue": {"values": [value]}}
        return json.dumps(of("resourceLogs", "scopeLogs", "logRecords", {"body": value})).encode()

    deep = to_message(nested(20), ExportLogsServiceRequest)
    assert ExportLogsServiceRequest.FromString(deep.SerializeToString()) == deep
    for depth in (60, 300):
        with pytest.raises(MalformedError):
            to_message(nested(depth), ExportLogsServiceRequest)


def test_answers_are_json() -> None:
    request = ExportLogsServiceRequest()
    request.resource_logs.add().schema_url = "s"

    assert json.loads(from_message(request)) == json_format.MessageToDict(request)
    assert b"\n" not in from_message(request)
