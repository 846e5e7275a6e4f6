"""Snapshots in Prometheus' protobuf format, with native histograms.

The messages are described here at run time: what is in use of the public definition
(prometheus/client_model, `metrics.proto`) is twenty lines. A generated file would be longer, need
`protoc` to change, and be tied to the generator's version.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)
from google.protobuf.proto import serialize_length_prefixed

from kernob.telemetry.model import Kind
from kernob.telemetry.prometheus import (
    TARGET_HELP,
    SeriesCache,
    classic_buckets,
    family,
    labels,
    resources,
    series_labels,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kernob.telemetry.model import Points, Series, Snapshot

_PACKAGE: Final = "io.prometheus.client"
_Field = descriptor_pb2.FieldDescriptorProto
_DOUBLE, _UINT64, _INT64, _INT32 = (
    _Field.TYPE_DOUBLE,
    _Field.TYPE_UINT64,
    _Field.TYPE_INT64,
    _Field.TYPE_INT32,
)
_UINT32, _SINT32, _SINT64, _STRING = (
    _Field.TYPE_UINT32,
    _Field.TYPE_SINT32,
    _Field.TYPE_SINT64,
    _Field.TYPE_STRING,
)
_MESSAGES: Final[dict[str, dict[str, tuple[int, int | str]]]] = {
    "Timestamp": {"seconds": (1, _INT64), "nanos": (2, _INT32)},
    "LabelPair": {"name": (1, _STRING), "value": (2, _STRING)},
    "Gauge": {"value": (1, _DOUBLE)},
    "Counter": {"value": (1, _DOUBLE), "created_timestamp": (3, "Timestamp")},
    "Bucket": {"cumulative_count": (1, _UINT64), "upper_bound": (2, _DOUBLE)},
    "BucketSpan": {"offset": (1, _SINT32), "length": (2, _UINT32)},
    "Histogram": {
        "sample_count": (1, _UINT64),
        "sample_sum": (2, _DOUBLE),
        "bucket*": (3, "Bucket"),
        "schema": (5, _SINT32),
        "zero_threshold": (6, _DOUBLE),
        "zero_count": (7, _UINT64),
        "positive_span*": (12, "BucketSpan"),
        "positive_delta*": (13, _SINT64),
        "created_timestamp": (15, "Timestamp"),
    },
    "Metric": {
        "label*": (1, "LabelPair"),
        "gauge": (2, "Gauge"),
        "counter": (3, "Counter"),
        "histogram": (7, "Histogram"),
    },
    "MetricFamily": {
        "name": (1, _STRING),
        "help": (2, _STRING),
        "type": (3, _INT32),
        "metric*": (4, "Metric"),
        "unit": (5, _STRING),
    },
}
"""The fields of each message: number and type; a star for a repeated one.

`type` is an enumeration and `Timestamp` google.protobuf's own: the same on the wire.
"""
_TYPES: Final = {
    Kind.COUNTER: 0,
    Kind.UP_DOWN_COUNTER: 1,
    Kind.GAUGE: 1,
    Kind.HISTOGRAM: 4,
}
_ZERO_THRESHOLD: Final = 2.0**-128
"""As Prometheus' own clients have it: below every bucket, and not 0, the sign of a native one."""


def _classes() -> dict[str, Any]:
    """Returns the message classes by name."""
    file = descriptor_pb2.FileDescriptorProto(
        name="kernob/prometheus.proto", package=_PACKAGE, syntax="proto2"
    )
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, (number, kind) in fields.items():
            repeated = name.endswith("*")
            field = described.field.add(
                name=name.rstrip("*"),
                number=number,
                label=_Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL,
            )
            if isinstance(kind, str):
                field.type = _Field.TYPE_MESSAGE
                field.type_name = f".{_PACKAGE}.{kind}"
            else:
                field.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _MESSAGES
    }


_CLASSES: Final = _classes()
MetricFamily: Final = _CLASSES["MetricFamily"]


def page(snapshot: Snapshot) -> bytes:
    """Returns a page: each family with its length in front."""
    out = BytesIO()
    for points, heads in zip(snapshot.points, _heads.of(snapshot), strict=True):
        serialize_length_prefixed(_family(points, heads), out)
    if found := resources(snapshot):
        info = MetricFamily(name="target_info", help=TARGET_HELP, type=_TYPES[Kind.GAUGE])
        for resource in found:
            info.metric.add(label=_pairs(labels(resource))).gauge.value = 1
        serialize_length_prefixed(info, out)
    return out.getvalue()


def _pairs(given: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in given.items()]


def _family(points: Points, heads: list[bytes]) -> Any:
    metric = points.metric
    name, unit = family(metric)
    result = MetricFamily(
        name=f"{name}_total" if metric.kind is Kind.COUNTER else name,
        help=metric.description,
        type=_TYPES[metric.kind],
        unit=unit,
    )
    add = result.metric.add
    if metric.kind is Kind.HISTOGRAM:
        _add_histograms(result, points, heads)
    elif metric.kind is Kind.COUNTER:
        for head, series, value in zip(heads, points.series, points.values.tolist(), strict=True):
            one = add()
            one.MergeFromString(head)
            one.counter.value = value
            _since(one.counter.created_timestamp, series)
    else:
        for head, value in zip(heads, points.values.tolist(), strict=True):
            one = add()
            one.MergeFromString(head)
            one.gauge.value = value
    return result


def _since(timestamp: Any, series: Series) -> None:
    timestamp.seconds, timestamp.nanos = divmod(series.start, 1_000_000_000)


def _add_histograms(result: Any, points: Points, heads: list[bytes]) -> None:
    if not heads:
        return
    values = points.values
    borders, counts = classic_buckets(values)
    for head, series, value, cumulative in zip(
        heads, points.series, values, counts.tolist(), strict=True
    ):
        one = result.metric.add()
        one.MergeFromString(head)
        histogram = one.histogram
        histogram.sample_count = int(value["zeros"]) + int(value["counts"].sum())
        histogram.sample_sum = value["sum"]
        histogram.schema = int(value["scale"])
        histogram.zero_threshold = _ZERO_THRESHOLD
        histogram.zero_count = int(value["zeros"])
        for border, count in zip(borders, cumulative, strict=True):
            histogram.bucket.add(cumulative_count=count, upper_bound=border)
        _add_spans(histogram, value["counts"], int(value["offset"]))
        _since(histogram.created_timestamp, series)


def _add_spans(histogram: Any, counts: NDArray[np.uint64], offset: int) -> None:
    """Adds the buckets that hold something: runs of them, and the change from one to the next."""
    used = np.flatnonzero(counts)
    end = 0
    for run in np.split(used, np.flatnonzero(np.diff(used) > 1) + 1) if len(used) else ():
        # The first run starts at a bucket number, which is one more than OpenTelemetry's index;
        # each further one at a distance from the end of the one before.
        start = int(run[0]) + offset + 1
        histogram.positive_span.add(offset=start - end, length=len(run))
        end = start + len(run)
    histogram.positive_delta.extend(np.diff(counts[used].astype(np.int64), prepend=0).tolist())


_heads = SeriesCache(
    lambda series: _CLASSES["Metric"](label=_pairs(series_labels(series))).SerializeToString()
)
