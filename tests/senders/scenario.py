"""What the senders send, and the rows that it makes in the tables.

A scenario is plain JSON, which each sender (Go, Java, Node, Python) carries out with its SDK.
Times are offsets in nanoseconds from `base`. The rows are those of the Collector's ClickHouse
exporter (v0.149.0, exporter_traces.go, exporter_logs.go, internal/metrics).
"""

from __future__ import annotations

import bisect
import json
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Json = dict[str, Any]

SCOPE = {"name": "shop.checkout", "version": "1.4.2"}
ROUNDS = 2  # of the same measurements, an export after each
PLAIN: Json = {
    "http.request.method": "POST",
    "http.response.status_code": 500,
    "largest": 2**53 - 1,
    "negative": -7,
    "ratio": 0.125,
    "tiny": 2.5e-9,
    "faint": 1.5e-300,
    "cached": False,
    "empty": "",
    "quoted": 'O\'Hara said "no"\\\n\t',
    "unicode": "Köln 日本語 🦊",
    "tags": ["a", "<b> & c", "ü"],
    "delays": [1, 20, 300],
    "weights": [0.5, 1e-7],
    "flags": [True, False],
    "large": "large " * 10_000,
}
NESTED: Json = {
    "nested": {"zone": "z", "city": "Köln", "orders": {"open": 3, "ratio": 0.25}, "none": None},
    "mixed": ["x", 1, True, [2.5], {"a": "<i>"}],
    "digest": {"$bytes": "3q2+7w=="},
}
RESOURCE: Json = {
    "host.name": "sender",
    "service.version": "1.4.2",
    "process.command_args": ["shop", "--région", "à côté"],
}
BOUNDS = [0.01, 0.1, 1.0, 10.0]
DURATIONS = [0.005, 0.01, 0.05, 0.7, 3.5, 99.5, 0.05]
SIZES = [0.25, 1.5, 3.25, 1000.5, 1_000_000.5, 1.5]


def scenario(base: int, *, nested: bool) -> Json:
    """Returns what to send: with `nested`, attributes of spans hold maps, too."""
    attributes = PLAIN | NESTED if nested else PLAIN
    return {
        "base": str(base),  # too large for a number of JavaScript
        "rounds": ROUNDS,
        "scope": SCOPE,
        "resource": RESOURCE,
        "spans": _spans(attributes),
        "metrics": _metrics(),
        "logs": _logs(),
    }


def _spans(attributes: Json) -> list[Json]:
    server = {
        "name": "POST /orders",
        "kind": "SERVER",
        "parent": "",
        "start": 0,
        "end": 1_500_000_123,
        "attributes": attributes,
        "events": [
            {
                "name": "exception",
                "time": 1_000_000_001,
                "attributes": {"exception.type": "Denied"},
            },
            {
                "name": "retry",
                "time": 1_000_000_002,
                "attributes": {"delays": [1, 2], "last": True},
            },
            {"name": "bare", "time": 1_000_000_003, "attributes": {}},
        ],
        "links": [],
        "status": {"code": "ERROR", "message": "card denied: 拒否"},
    }
    none: Json = {
        "attributes": {},
        "events": [],
        "links": [],
        "status": {"code": "", "message": ""},
    }
    inside = {"parent": "POST /orders"}
    links = [
        {"span": "POST /orders", "attributes": {"why": "cause", "weight": 0.5}},
        {"span": "SELECT orders", "attributes": {}},
    ]
    times = [{"start": 10 * i, "end": 10 * i + i} for i in range(6)]  # the first lasts no time
    return [
        server,
        none | times[1] | inside | {"name": "SELECT orders", "kind": "CLIENT"},
        none | times[2] | inside | {"name": "send", "kind": "PRODUCER", "links": links},
        none | times[3] | {"name": "receive", "kind": "CONSUMER", "parent": ""},
        none | times[0] | {"name": "tick", "kind": "INTERNAL", "parent": ""}
        | {"status": {"code": "OK", "message": ""}},
    ]  # fmt: skip


def _metrics() -> list[Json]:
    def metric(name: str, kind: str, unit: str, *measured: tuple[float, Json], **more: Any) -> Json:
        return {
            "name": name,
            "kind": kind,
            "unit": unit,
            "description": f"What {name} is, in {unit}",
            "bounds": more.get("bounds", []),
            "measurements": [
                {"value": value, "attributes": attributes, "span": more.get("span", "")}
                for value, attributes in measured
            ],
        }

    a, b = {"shop": "a", "open": True}, {"shop": "b", "floor": 3}
    durations = [(value, {"route": "/orders/{id}"}) for value in DURATIONS]
    sizes = [(value, {"tags": ["x", "y"]}) for value in SIZES]
    return [
        metric("orders", "int_counter", "{order}", (3, a), (4, b), (2, a), span="POST /orders"),
        metric("energy", "double_counter", "J", (0.1, {}), (0.2, {})),
        metric("queue", "int_up_down_counter", "{item}", (5, a), (-7, a)),
        metric("temperature", "double_gauge", "Cel", (21.5, a), (-3.25, a), (19.75, b)),
        metric("duration", "double_histogram", "s", *durations, bounds=BOUNDS, span="POST /orders"),
        metric("body.size", "double_histogram", "By", *sizes),  # a view makes it exponential
    ]


def _logs() -> list[Json]:
    def log(time: int, severity: int, text: str, body: Any, **more: Any) -> Json:
        entry = {"time": time, "severity": severity, "text": text, "body": body}
        return {"event": "", "attributes": {}, "span": ""} | entry | more

    return [
        log(1, 9, "INFO", "order placed ü 🦊", span="POST /orders"),
        log(2, 17, "ERROR", {"order": 17, "by": {"name": "Zoë"}}, attributes=PLAIN | NESTED),
        log(3, 1, "TRACE", ["a", 1, {"b": 0.5}], event="order.dumped"),
        log(4, 24, "fatal", "line one\nline two", span="tick"),
        log(5, 13, "WARN", ""),
    ]


# -- rows ------------------------------------------------------------------------------------------


def as_string(value: Any) -> str:
    """Returns an attribute's value as the Collector writes it (pdata v1.55.0, Value.AsString)."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, dict) and "$bytes" in value:
        return str(value["$bytes"])
    return _json(value)


def _json(value: Any) -> str:
    """Returns JSON as Go's encoding/json writes it."""
    match value:
        case bool() | None:
            return json.dumps(value)
        case float():
            text = repr(value)
            return text.replace("e-0", "e-").removesuffix(".0")
        case list():
            return "[" + ",".join(map(_json, value)) + "]"
        case dict() if "$bytes" in value:
            return json.dumps(value["$bytes"])
        case dict():
            return "{" + ",".join(f"{_json(k)}:{_json(v)}" for k, v in sorted(value.items())) + "}"
    text = json.dumps(value, ensure_ascii=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def strings(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Returns attributes as a map of the tables."""
    return {name: as_string(value) for name, value in attributes.items()}


def spans(sent: Json, ids: Mapping[str, list[str]], service: str) -> list[Json]:
    """Returns the rows of otel_traces in order of SpanName; times are nanoseconds."""
    base = int(sent["base"])
    rows = []
    for span in sent["spans"]:
        trace_id, span_id = ids[span["name"]]
        rows.append(
            {
                "Timestamp": base + span["start"],
                "TraceId": trace_id,
                "SpanId": span_id,
                "ParentSpanId": ids[span["parent"]][1] if span["parent"] else "",
                "TraceState": "",
                "SpanName": span["name"],
                "SpanKind": span["kind"].capitalize(),
                "ServiceName": service,
                "ScopeName": SCOPE["name"],
                "ScopeVersion": SCOPE["version"],
                "SpanAttributes": strings(span["attributes"]),
                "Duration": span["end"] - span["start"],
                "StatusCode": span["status"]["code"].capitalize() or "Unset",
                "StatusMessage": span["status"]["message"],
                "Events.Timestamp": [base + event["time"] for event in span["events"]],
                "Events.Name": [event["name"] for event in span["events"]],
                "Events.Attributes": [strings(event["attributes"]) for event in span["events"]],
                "Links.TraceId": [ids[link["span"]][0] for link in span["links"]],
                "Links.SpanId": [ids[link["span"]][1] for link in span["links"]],
                "Links.TraceState": ["" for _ in span["links"]],
                "Links.Attributes": [strings(link["attributes"]) for link in span["links"]],
            }
        )
    return sorted(rows, key=lambda row: row["SpanName"])


def logs(sent: Json, ids: Mapping[str, list[str]], service: str) -> list[Json]:
    """Returns the rows of otel_logs in order of Timestamp."""
    return [
        {
            "Timestamp": int(sent["base"]) + entry["time"],
            "TraceId": ids[entry["span"]][0] if entry["span"] else "",
            "SpanId": ids[entry["span"]][1] if entry["span"] else "",
            "TraceFlags": 1 if entry["span"] else 0,
            "SeverityText": entry["text"],
            "SeverityNumber": entry["severity"],
            "ServiceName": service,
            "Body": as_string(entry["body"]),
            "ScopeName": SCOPE["name"],
            "ScopeVersion": SCOPE["version"],
            "ScopeAttributes": {},
            "LogAttributes": strings(entry["attributes"]),
            "EventName": entry["event"],
        }
        for entry in sent["logs"]
    ]


def _series(metric: Json) -> Iterator[tuple[dict[str, str], list[float]]]:
    """Yields the attributes and the values of each series of a metric, in order of attributes."""
    found: dict[str, tuple[dict[str, str], list[float]]] = {}
    for measured in metric["measurements"]:
        attributes = strings(measured["attributes"])
        found.setdefault(str(attributes), (attributes, []))[1].append(measured["value"])
    yield from (found[key] for key in sorted(found))


def points(sent: Json, service: str, temporality: str) -> list[Json]:
    """Returns what rows of sums, gauges and histograms must hold, each by metric and time.

    Rows of the exponential histogram are told apart from the others by `Scale`, which the SDK
    chooses: see `exponential`.
    """
    rows = []
    for metric in sent["metrics"]:
        cumulative = temporality == "cumulative" or metric["kind"] == "int_up_down_counter"
        for attributes, values in _series(metric):
            for done in range(1, ROUNDS + 1):
                seen = values * (done if cumulative else 1)
                rows.append(
                    {
                        "ServiceName": service,
                        "ScopeName": SCOPE["name"],
                        "ScopeVersion": SCOPE["version"],
                        "MetricName": metric["name"],
                        "MetricDescription": metric["description"],
                        "MetricUnit": metric["unit"],
                        "Attributes": attributes,
                        **_figures(metric, seen, 2 if cumulative else 1),
                    }
                )
    return rows


def _figures(metric: Json, values: list[float], temporality: int) -> Json:
    if metric["kind"] == "double_gauge":
        return {"Value": values[-1]}
    if metric["kind"] != "double_histogram":
        monotonic = metric["kind"] != "int_up_down_counter"
        figures = {"Value": float(sum(values)), "IsMonotonic": monotonic}
        return figures | {"AggregationTemporality": temporality}
    figures = {
        "Count": len(values),
        "Sum": sum(values),
        "Min": min(values),
        "Max": max(values),
        "AggregationTemporality": temporality,
    }
    if not metric["bounds"]:
        return figures | {"values": values}
    counts = [0] * (len(BOUNDS) + 1)
    for value in values:
        counts[bisect.bisect_left(BOUNDS, value)] += 1
    return figures | {"ExplicitBounds": BOUNDS, "BucketCounts": counts}


def exponential(values: list[float], scale: int) -> dict[int, int]:
    """Returns the counts of an exponential histogram's buckets, by their index.

    OpenTelemetry's data model 1.50, "Exponential buckets": (base**index, base**(index+1)].
    """
    return dict(Counter(math.ceil(math.log2(value) * 2.0**scale) - 1 for value in values))
