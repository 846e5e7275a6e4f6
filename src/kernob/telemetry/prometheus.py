"""Snapshots as Prometheus scrapes them: text 0.0.4, OpenMetrics 1.0, protobuf.

Names and labels follow OpenTelemetry's translation ("Prometheus and OpenMetrics Compatibility",
specification 1.50). Where that leaves a choice:

- `service.name` of the resource is a label of each series, all else of it is in `target_info`,
  which has the same label to join by. `job` and `instance` are left to the scraper: a page of many
  services that said them itself would get `exported_job` on every series. So the series of one
  metric differ in their own attributes or in `service.name`.
- No `otel_scope_*` labels: there is one scope, and each label costs in every series.
- No `_created` lines: they double the series. In protobuf, which has a field for it, it is said.
- Exponential histograms are native histograms in protobuf. In text they become classic buckets
  whose borders are powers of two, which are borders of the exponential buckets too: exact counts.
  Protobuf has both, for a scraper that doesn't take native ones.
- Values have no time: they are those of the latest snapshot.
"""

from __future__ import annotations

import math
import re
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import numpy as np

from kernob.telemetry.model import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from kernob.telemetry.model import Attributes, AttributeValue, Metric, Series, Snapshot

T = TypeVar("T")

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROTOBUF: Final = (
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
)

_UNITS: Final = {
    "d": "days",
    "h": "hours",
    "min": "minutes",
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "By": "bytes",
    "KiBy": "kibibytes",
    "MiBy": "mebibytes",
    "GiBy": "gibibytes",
    "TiBy": "tibibytes",
    "KBy": "kilobytes",
    "kBy": "kilobytes",
    "MBy": "megabytes",
    "GBy": "gigabytes",
    "TBy": "terabytes",
    "m": "meters",
    "V": "volts",
    "A": "amperes",
    "J": "joules",
    "W": "watts",
    "g": "grams",
    "Cel": "celsius",
    "Hz": "hertz",
    "%": "percent",
}
_PER: Final = {
    "s": "second",
    "min": "minute",
    "h": "hour",
    "d": "day",
    "w": "week",
    "mo": "month",
    "y": "year",
}
_TYPES: Final = {
    Kind.COUNTER: "counter",
    Kind.UP_DOWN_COUNTER: "gauge",
    Kind.GAUGE: "gauge",
    Kind.HISTOGRAM: "histogram",
}
TARGET_HELP: Final = "What OpenTelemetry's resource says of a service."
_FLOAT: Final = sys.float_info
_SERVICE: Final = "service.name"


def render(snapshot: Snapshot, accept: str) -> tuple[str, bytes]:
    """Returns the content type and the page, in the format a client's `Accept` likes best."""
    content_type = negotiate(accept)
    if content_type == PROTOBUF:
        # Google's protobuf takes 3 MiB of memory, which most scrapers have no use for.
        from kernob.telemetry import prometheus_protobuf  # noqa: PLC0415

        return content_type, prometheus_protobuf.page(snapshot)
    text = "".join(_text(snapshot, openmetrics=content_type == OPENMETRICS))
    return content_type, text.encode("utf-8", "replace")


def negotiate(accept: str) -> str:
    """Returns the content type to answer with: the best liked, then the first; else `TEXT`.

    RFC 9110, section 12.5.1.
    """
    best, liking = TEXT, 0.0
    for item in accept.split(","):
        media, *parameters = (part.strip().lower() for part in item.split(";"))
        given = dict(parameter.partition("=")[::2] for parameter in parameters)
        try:
            q = float(given.get("q", "1"))
        except ValueError:
            continue
        offered = _offered(media, given)
        if offered and q > liking:
            best, liking = offered, q
    return best


def _offered(media: str, given: dict[str, str]) -> str:
    """Returns which of the content types a media range means; empty for none."""
    version = given.get("version", "").strip('"')
    if media == "application/vnd.google.protobuf":
        proto = given.get("proto", "").strip('"') == "io.prometheus.client.metricfamily"
        return PROTOBUF if proto and given.get("encoding", "").strip('"') == "delimited" else ""
    if media == "application/openmetrics-text":
        return OPENMETRICS if version in {"", "1.0.0", "0.0.1"} else ""
    if media in {"text/plain", "text/*", "*/*"}:
        return TEXT if version in {"", "0.0.4"} else ""
    return ""


@lru_cache(maxsize=1024)
def family(metric: Metric) -> tuple[str, str]:
    """Returns a metric's name in Prometheus without `_total`, and the unit it ends in, if any."""
    name = metric.name.removesuffix("_total").removesuffix(".total")
    name = re.sub(r"_+", "_", re.sub(r"[^a-zA-Z0-9_:]", "_", name)).strip("_")
    unit = _unit(metric)
    if unit and not name.endswith(f"_{unit}"):
        name = f"{name}_{unit}"
    return (f"_{name}" if name[:1].isdigit() else name), unit


def _unit(metric: Metric) -> str:
    """Returns a unit in Prometheus' words (`By/s` is `bytes_per_second`); empty for none."""
    unit, _, per = re.sub(r"\{[^}]*\}", "", metric.unit).partition("/")
    if unit == "1" and not per:
        return "ratio" if metric.kind is Kind.GAUGE else ""
    words = [_UNITS.get(unit, unit)] if unit != "1" else []
    if per:
        words += ["per", _PER.get(per, per)]
    return re.sub(r"[^a-zA-Z0-9_]+", "_", "_".join(words)).strip("_")


def labels(attributes: Attributes, service: AttributeValue | None = None) -> dict[str, str]:
    """Returns attributes as labels; `service` as `service_name` unless they say it themselves.

    Attributes whose names become the same are one label, their values joined by `;`.
    """
    result: dict[str, str] = {}
    for name, value in attributes:
        label = _label_name(name)
        text = str(value).lower() if isinstance(value, bool) else str(value)
        result[label] = f"{result[label]};{text}" if label in result else text
    if service is not None:
        result.setdefault(_SERVICE.replace(".", "_"), str(service))
    return result


@lru_cache(maxsize=4096)
def _label_name(name: str) -> str:
    label = re.sub(r"[^a-zA-Z0-9_]", "_", name)
    return f"key_{label}" if label[:1].isdigit() else label


def series_labels(series: Series) -> dict[str, str]:
    """Returns all labels of a series."""
    return labels(series.attributes, dict(series.resource).get(_SERVICE))


def resources(snapshot: Snapshot) -> list[Attributes]:
    """Returns the different resources of a snapshot, in order of appearance."""
    # By identity first: hashing the attributes of 10,000 series costs more than the page.
    found = {id(s.resource): s.resource for points in snapshot.points for s in points.series}
    return [resource for resource in dict.fromkeys(found.values()) if resource]


class SeriesCache(Generic[T]):
    """What was made of each series of the last page: from page to page they are the same objects.

    Threads may share one: at worst they make something twice.
    """

    def __init__(self, make: Callable[[Series], T]) -> None:
        self._make = make
        self._made: dict[int, tuple[Series, T]] = {}

    def of(self, snapshot: Snapshot) -> list[list[T]]:
        """Returns, for each of the snapshot's points, what is made of each series."""
        before, made = self._made, {}
        page = []
        for points in snapshot.points:
            row = []
            for series in points.series:
                entry = before.get(id(series))
                # The id may be that of a series long gone.
                if entry is None or entry[0] is not series:
                    entry = (series, self._make(series))
                made[id(series)] = entry
                row.append(entry[1])
            page.append(row)
        self._made = made
        return page


def classic_buckets(values: NDArray[Any]) -> tuple[list[float], NDArray[np.uint64]]:
    """Returns exponential histograms as cumulative counts at powers of two.

    Returns:
        k upper borders, and the counts of shape (n, k): how many values are at most the border.
        The borders depend on scale, offset and number of the buckets alone, so they stay.
    """
    scale, offset = int(values["scale"][0]), int(values["offset"][0])
    counts = np.concatenate([values["zeros"][:, np.newaxis], values["counts"]], axis=1)
    cumulative = np.cumsum(counts, axis=1, dtype=np.uint64)
    # Every `step`-th border between buckets is a power of two: 2**(border * 2**-scale).
    step = 1 << max(scale, 0)
    last = offset + values["counts"].shape[1]
    borders = range(offset // step * step, -(-last // step) * step + 1, step)
    exponents = [border // step << max(-scale, 0) for border in borders]
    at = np.clip(np.array(borders) - offset, 0, last - offset)
    finite = [
        row for row, exponent in enumerate(exponents) if _FLOAT.min_exp <= exponent < _FLOAT.max_exp
    ]
    return [math.ldexp(1.0, exponents[row]) for row in finite], cumulative[:, at[finite]]


def _text(snapshot: Snapshot, *, openmetrics: bool) -> Iterator[str]:
    """Yields the lines of a page, each with its end."""
    for points, texts in zip(snapshot.points, _texts.of(snapshot), strict=True):
        name, unit = family(points.metric)
        sample = f"{name}_total" if points.metric.kind is Kind.COUNTER else name
        described = name if openmetrics else sample
        yield f"# HELP {described} {_escape(points.metric.description, quote=openmetrics)}\n"
        yield f"# TYPE {described} {_TYPES[points.metric.kind]}\n"
        if openmetrics and unit:
            yield f"# UNIT {described} {unit}\n"
        if points.metric.kind is Kind.HISTOGRAM:
            yield from _histograms(name, texts, points.values)
        else:
            for text, value in zip(texts, _numbers(points.values), strict=True):
                yield f"{sample}{text} {value}\n"
    if found := resources(snapshot):
        described = "target" if openmetrics else "target_info"
        yield f"# HELP {described} {TARGET_HELP}\n"
        yield f"# TYPE {described} {'info' if openmetrics else 'gauge'}\n"
        for resource in found:
            yield f"target_info{_label_text(labels(resource))} 1\n"
    if openmetrics:
        yield "# EOF\n"


def _histograms(name: str, texts: list[str], values: NDArray[Any]) -> Iterator[str]:
    if not texts:
        return
    borders, counts = classic_buckets(values)
    totals = values["zeros"] + values["counts"].sum(axis=1, dtype=np.uint64)
    les = [*map(repr, borders), "+Inf"]
    for text, row, total, value in zip(
        texts, counts.tolist(), totals.tolist(), _numbers(values["sum"]), strict=True
    ):
        own = f"{{{text[1:-1]}," if text else "{"
        for le, count in zip(les, [*row, total], strict=True):
            yield f'{name}_bucket{own}le="{le}"}} {count}\n'
        yield f"{name}_sum{text} {value}\n{name}_count{text} {total}\n"


def _numbers(values: NDArray[Any]) -> list[Any]:
    """Returns values as they are written."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        words = {math.inf: "+Inf", -math.inf: "-Inf"}
        return ["NaN" if math.isnan(v) else words.get(v, v) for v in values.tolist()]
    numbers: list[Any] = values.tolist()
    return numbers


def _escape(text: str, *, quote: bool) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quote else text


def _label_text(given: dict[str, str]) -> str:
    inner = ",".join(f'{name}="{_escape(value, quote=True)}"' for name, value in given.items())
    return f"{{{inner}}}" if inner else ""


_texts = SeriesCache(lambda series: _label_text(series_labels(series)))
