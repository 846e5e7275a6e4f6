from __future__ import annotations

import json
import math
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from kernob.telemetry import prometheus, prometheus_protobuf
from kernob.telemetry.http import Listener, Request, Response
from kernob.telemetry.model import (
    OVERFLOW,
    Kind,
    Metric,
    Points,
    Series,
    Snapshot,
    attributes,
    histogram_dtype,
)
from servers import debian_server, free_port, running, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IO = Metric("process.network.io", Kind.COUNTER, "By", 'Bytes of "processes"\\\nby direction.')
CONNECTIONS = Metric("kernob.connections", Kind.UP_DOWN_COUNTER, "{connection}", "Open ones.")
LATENCY = Metric("http.server.request.duration", Kind.HISTOGRAM, "s", "How long requests take.")
FILL = Metric("kernob.agent.map.fill", Kind.GAUGE, "1", "How full.")
NGINX = attributes({"service.name": "nginx", "host.name": "h"})
SCALE, OFFSET, BUCKETS = 3, -60, 100


def latencies(seconds: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Returns one histogram of these; zeros apart."""
    value = np.zeros(1, histogram_dtype(BUCKETS))
    value["scale"], value["offset"] = SCALE, OFFSET
    value["zeros"] = (seconds == 0).sum()
    value["sum"] = seconds.sum()
    index = np.ceil(np.log2(seconds[seconds > 0]) * 2**SCALE).astype(int) - 1
    np.add.at(value["counts"][0], index - OFFSET, 1)
    return value


SECONDS = np.concatenate([np.geomspace(0.01, 2.0, 1000), np.zeros(5)])


def snapshot() -> Snapshot:
    io = [
        Series(
            NGINX,
            attributes(
                {
                    "process.pid": 42,
                    "process.executable.name": "nginx",
                    "network.io.direction": direction,
                    "network.transport": "tcp",
                }
            ),
            1_700_000_000_000_000_000,
        )
        for direction in ("transmit", "receive")
    ]
    other = Series(attributes({"service.name": "redis"}), OVERFLOW, 1)
    return Snapshot(
        2,
        (
            Points(IO, io, np.array([2**53 + 1, 7], np.uint64)),
            Points(CONNECTIONS, [other], np.array([3])),
            Points(LATENCY, [Series(NGINX, (("http.route", "/"),), 1)], latencies(SECONDS)),
            Points(FILL, [Series(NGINX, (), 1)], np.array([0.25])),
        ),
    )


def page(accept: str = "text/plain") -> str:
    return prometheus.render(snapshot(), accept)[1].decode()


def samples(text: str, parse: Any = parse_text) -> dict[tuple[str, frozenset[Any]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse(text)
        for sample in family.samples
    }


def test_the_contract_line() -> None:
    assert (
        'process_network_io_bytes_total{network_io_direction="transmit",network_transport="tcp",'
        'process_executable_name="nginx",process_pid="42",service_name="nginx"} 9007199254740993\n'
    ) in page()


@pytest.mark.parametrize(
    ("name", "kind", "unit", "expected"),
    [
        ("kernob.network.io", Kind.COUNTER, "By", "kernob_network_io_bytes"),
        ("kernob.network.operations", Kind.COUNTER, "{operation}", "kernob_network_operations"),
        ("a.bytes", Kind.GAUGE, "By", "a_bytes"),
        ("a.total", Kind.COUNTER, "1", "a"),
        ("a.load", Kind.GAUGE, "1", "a_load_ratio"),
        ("a.rate", Kind.GAUGE, "By/s", "a_rate_bytes_per_second"),
        ("a.rate", Kind.GAUGE, "{packet}/s", "a_rate_per_second"),
        ("a..b--c", Kind.GAUGE, "%", "a_b_c_percent"),
        ("0day", Kind.GAUGE, "", "_0day"),
    ],
)
def test_names_and_units(name: str, kind: Kind, unit: str, expected: str) -> None:
    assert prometheus.family(Metric(name, kind, unit, ""))[0] == expected


def test_attributes_that_become_one_label_are_joined() -> None:
    assert prometheus.labels((("a.b", 1), ("a_b", True), ("1x", 2.5))) == {
        "a_b": "1;true",
        "key_1x": "2.5",
    }


def test_the_own_service_name_wins() -> None:
    series = Series(NGINX, (("service.name", "own"),), 1)

    assert prometheus.series_labels(series) == {"service_name": "own"}


def test_both_texts_say_the_same() -> None:
    text = samples(page())

    assert text == samples(page(prometheus.OPENMETRICS), parse_openmetrics)
    assert text["kernob_connections", frozenset({("otel_metric_overflow", "true"), ("service_name", "redis")})] == 3  # fmt: skip  # noqa: E501
    assert text["target_info", frozenset({("service_name", "nginx"), ("host_name", "h")})] == 1
    assert text["kernob_agent_map_fill_ratio", frozenset({("service_name", "nginx")})] == 0.25


def test_openmetrics_has_types_units_and_an_end() -> None:
    text = page(prometheus.OPENMETRICS)

    assert (
        "# TYPE process_network_io_bytes counter\n# UNIT process_network_io_bytes bytes\n" in text
    )
    assert "# TYPE target info\n" in text
    assert text.endswith("\n# EOF\n")
    help_text = next(f.documentation for f in parse_openmetrics(text))
    assert help_text == IO.description


@pytest.mark.parametrize("scale", [-2, 0, 1, 3, 8])
@pytest.mark.parametrize("offset", [-37, -1, 0, 5])
def test_classic_buckets_count_exactly(scale: int, offset: int) -> None:
    rng = np.random.default_rng(abs(scale * 100 + offset))
    values = np.zeros(2, histogram_dtype(50))
    values["scale"], values["offset"], values["zeros"] = scale, offset, [1, 0]
    values["counts"] = rng.integers(0, 9, (2, 50))

    borders, counts = prometheus.classic_buckets(values)

    upper = (offset + np.arange(50) + 1) * 2.0**-scale
    for border, column in zip(borders, counts.T, strict=True):
        below = upper <= math.log2(border)
        expected = values["zeros"] + values["counts"][:, below].sum(axis=1, dtype=np.uint64)
        assert column.tolist() == expected.tolist()
        assert math.frexp(border)[0] == 0.5
    assert counts[:, -1].tolist() == (values["zeros"] + values["counts"].sum(axis=1)).tolist()


def test_values_that_are_no_numbers() -> None:
    series = [Series((), (("i", i),), 1) for i in range(4)]
    points = Points(FILL, series, np.array([math.nan, math.inf, -math.inf, 1e300]))

    text = prometheus.render(Snapshot(1, (points,)), "")[1].decode()

    assert [line.split()[1] for line in text.splitlines()[2:]] == ["NaN", "+Inf", "-Inf", "1e+300"]


def test_an_empty_metric_is_a_page_all_the_same() -> None:
    empty = Points(LATENCY, [], np.zeros(0, histogram_dtype(4)))

    for accept in (prometheus.TEXT, prometheus.OPENMETRICS, prometheus.PROTOBUF):
        assert prometheus.render(Snapshot(1, (empty,)), accept)[0] == accept


PROTO = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily"
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", prometheus.TEXT),
        ("*/*", prometheus.TEXT),
        ("text/html, application/json", prometheus.TEXT),
        ("application/openmetrics-text", prometheus.OPENMETRICS),
        (PROMETHEUS_2, prometheus.OPENMETRICS),
        ("application/openmetrics-text;version=2.0.0,text/plain;q=0.1", prometheus.TEXT),
        ("application/openmetrics-text;q=0.2,text/plain;q=0.3", prometheus.TEXT),
        ("application/openmetrics-text;q=0", prometheus.TEXT),
        ("application/openmetrics-text;q=nonsense", prometheus.TEXT),
        (f"{PROTO};encoding=delimited,{PROMETHEUS_2}", prometheus.PROTOBUF),
        (f"{PROTO};encoding=text", prometheus.TEXT),
    ],
)
def test_negotiation(accept: str, expected: str) -> None:
    assert prometheus.negotiate(accept) == expected


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=50))
def test_label_values_survive(value: str) -> None:
    series = Series((), (("v", value),), 1)
    text = prometheus.render(
        Snapshot(1, (Points(FILL, [series], np.array([1.0])),)), prometheus.OPENMETRICS
    )[1].decode()

    [family] = parse_openmetrics(text)

    assert family.samples[0].labels == {"v": value}


def test_bytes_that_are_no_unicode_become_question_marks() -> None:
    series = Series((), (("v", os.fsdecode(b"\xff")),), 1)

    body = prometheus.render(Snapshot(1, (Points(FILL, [series], np.array([1.0])),)), "")[1]

    assert b'{v="?"} 1.0' in body


def test_a_series_is_not_taken_for_one_that_had_its_place_in_memory() -> None:
    for number in range(200):
        series = Series((), (("v", number),), 1)
        body = prometheus.render(Snapshot(1, (Points(FILL, [series], np.array([1.0])),)), "")[1]
        assert f'{{v="{number}"}} 1.0'.encode() in body
        del series


def test_ten_thousand_series_are_quick() -> None:
    series = [Series(NGINX, attributes({"kernob.peer": f"p{i}", "n": i}), 1) for i in range(10_000)]
    large = Snapshot(1, (Points(IO, series, np.arange(10_000)),))
    for accept, limit in ((prometheus.TEXT, 0.1), (prometheus.PROTOBUF, 0.2)):
        prometheus.render(large, accept)
        begin = time.thread_time()
        prometheus.render(large, accept)
        assert time.thread_time() - begin < limit


def test_native_histograms_have_spans_and_deltas() -> None:
    value = np.zeros(1, histogram_dtype(10))
    value["scale"], value["offset"], value["zeros"], value["sum"] = 3, -4, 2, 1.5
    value["counts"] = [0, 5, 3, 0, 0, 0, 7, 0, 1, 0]
    points = Points(LATENCY, [Series((), (), 1_500_000_000)], value)

    body = prometheus_protobuf.page(Snapshot(1, (points,)))

    histogram = prometheus_protobuf.MetricFamily.FromString(body[2:]).metric[0].histogram
    assert (histogram.sample_count, histogram.sample_sum, histogram.zero_count) == (18, 1.5, 2)
    assert [(s.offset, s.length) for s in histogram.positive_span] == [(-2, 2), (3, 1), (1, 1)]
    assert list(histogram.positive_delta) == [5, -2, 4, -6]
    created = histogram.created_timestamp
    assert (histogram.schema, created.seconds, created.nanos) == (3, 1, 500_000_000)


# -- the real ones -------------------------------------------------------------------------------


class Scraped:
    """A listener that real servers scrape; what they asked for is kept."""

    def __init__(self) -> None:
        self.accepted: set[str] = set()
        self.pages = 0
        self.listener = Listener("127.0.0.1:0", {"/metrics": self._serve})
        self.listener.start()

    def _serve(self, request: Request) -> Response:
        kind, body = prometheus.render(snapshot(), request.header("accept"))
        self.accepted.add(kind)
        self.pages += "vm_promscrape" in request.header("user-agent")
        return Response(200, kind, body)


@pytest.fixture(scope="session")
def scraped() -> Iterator[Scraped]:
    page = Scraped()
    yield page
    page.listener.close()


SCRAPE = """
global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}
scrape_configs:
  - job_name: kernob
    static_configs: [{{targets: ["{target}"]}}]
"""


def real_prometheus(scraped: Scraped, folder: Path, *flags: str) -> Iterator[str]:
    binary, port = debian_server("prometheus"), free_port()
    config = folder / "prometheus.yaml"
    config.write_text(SCRAPE.format(target=scraped.listener.address))
    command = [binary, f"--config.file={config}", f"--storage.tsdb.path={folder}/data",
               f"--web.listen-address=127.0.0.1:{port}", *flags]  # fmt: skip
    for _ in running(command, port, folder / "log"):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def native_url(scraped: Scraped, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    flag = "--enable-feature=native-histograms"
    yield from real_prometheus(scraped, tmp_path_factory.mktemp("native"), flag)


@pytest.fixture(scope="session")
def prometheus_url(
    scraped: Scraped,
    tmp_path_factory: pytest.TempPathFactory,
    native_url: str,  # noqa: ARG001  (each takes 5 s to its first scrape: they wait together)
) -> Iterator[str]:
    yield from real_prometheus(scraped, tmp_path_factory.mktemp("prometheus"))


@pytest.fixture(scope="session")
def victoria_url(scraped: Scraped, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    binary, port = debian_server("victoria-metrics"), free_port()
    folder = tmp_path_factory.mktemp("victoria")
    config = folder / "scrape.yaml"
    config.write_text(SCRAPE.format(target=scraped.listener.address))
    command = [binary, f"-promscrape.config={config}", f"-storageDataPath={folder}/data",
               f"-httpListenAddr=127.0.0.1:{port}", "-search.latencyOffset=0s",
               "-memory.allowedBytes=64MB"]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    before = scraped.pages
    for _ in running(command, port, folder / "log"):
        wait_until(lambda: scraped.pages > before + 1, "two scrapes")
        # What it has taken can be found after seconds, or at once when told to.
        urllib.request.urlopen(f"{url}/internal/force_flush", timeout=10).close()
        yield url


def query(url: str, expression: str) -> list[tuple[dict[str, str], Any]]:
    """Returns labels and value of each series; a native histogram's value is a dictionary."""
    found: list[dict[str, Any]] = []

    def ask() -> bool:
        asked = f"{url}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        try:
            with urllib.request.urlopen(asked, timeout=10) as answer:
                found[:] = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            if error.code != 503:  # still starting
                raise
            error.close()
        return bool(found)

    wait_until(ask, f"{expression} at {url}", 20)
    return [
        (one["metric"], float(one["value"][1]) if "value" in one else one["histogram"][1])
        for one in found
    ]


@pytest.mark.server
@pytest.mark.parametrize("server", ["prometheus_url", "native_url", "victoria_url"])
def test_real_servers_take_every_series(server: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue(server)

    [(labels, value)] = query(
        url, 'process_network_io_bytes_total{network_io_direction="transmit"}'
    )

    assert value == float(2**53 + 1)
    assert labels["process_pid"] == "42"
    assert labels["service_name"] == "nginx"
    assert labels["job"] == "kernob"
    assert query(url, "kernob_connections")[0][1] == 3
    assert query(url, "kernob_agent_map_fill_ratio")[0][1] == 0.25
    assert {labels["service_name"] for labels, _ in query(url, "target_info")} == {"nginx", "redis"}


@pytest.mark.server
@pytest.mark.parametrize("server", ["prometheus_url", "victoria_url"])
def test_real_servers_find_classic_quantiles(server: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue(server)
    name = "http_server_request_duration_seconds"

    assert query(url, f"{name}_count")[0][1] == len(SECONDS)
    assert query(url, f"{name}_sum")[0][1] == pytest.approx(SECONDS.sum())
    [(_, median)] = query(url, f"histogram_quantile(0.5, sum by (le) ({name}_bucket))")
    # Borders are a factor of two apart.
    assert np.median(SECONDS) / 2 < median < np.median(SECONDS) * 2


@pytest.mark.server
def test_a_real_prometheus_takes_native_histograms(native_url: str, scraped: Scraped) -> None:
    assert prometheus.PROTOBUF in scraped.accepted
    name = "http_server_request_duration_seconds"

    [(_, histogram)] = query(native_url, name)
    assert float(histogram["count"]) == len(SECONDS)
    assert float(histogram["sum"]) == pytest.approx(SECONDS.sum())
    found = [
        (float(low), float(high), float(count)) for _, low, high, count in histogram["buckets"]
    ]
    counts = latencies(SECONDS)["counts"][0]
    expected = [
        (2.0 ** ((OFFSET + i) / 8), 2.0 ** ((OFFSET + i + 1) / 8), float(count))
        for i, count in enumerate(counts)
        if count
    ]
    assert [bucket[2] for bucket in found] == [5.0, *(bucket[2] for bucket in expected)]
    assert np.allclose(np.array(found[1:]), np.array(expected), rtol=1e-12)
    for q in (0.1, 0.5, 0.9, 0.99):
        [(_, quantile)] = query(native_url, f"histogram_quantile({q}, {name})")
        assert quantile == pytest.approx(np.quantile(SECONDS, q), rel=0.1)
