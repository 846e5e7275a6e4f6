from __future__ import annotations

import numpy as np
import pytest
from operations import Feed, series

from kernob.request_rates import Line, Meter, matching, measure, summed
from kernob.requests_table import SeriesTable

KEY = ("shop", "server", "client", "http", "GET /")


def table(second: float, *rows: object) -> SeriesTable:
    return Feed(lambda _: list(rows), time=int(second * 1e9))()  # type: ignore[arg-type]


def test_statuses_are_one_line_and_errors_are_told_apart() -> None:
    feed = Feed()
    meter = Meter()
    assert meter.add(feed(), 0) is None
    sample = meter.add(feed(), 1)

    assert sample is not None
    lines = {line.key[4]: line for line in sample.lines}
    get = lines["GET /items/{id}"]
    assert (get.requests, get.rate, get.errors, get.error_rate) == (10, 10.0, 2, 2.0)
    assert lines["POST /orders"].rate == 1.0
    assert lines["SELECT t"].requests == 0
    assert summed(sample.lines, 1).requests == 11


def test_what_is_new_counts_and_what_went_back_does_not() -> None:
    before = table(1, series("GET /", 5), series("PUT /", 9))
    after = table(2, series("GET /", 5, 3), series("PUT /", 4), series("DELETE /", 2))

    counted = {line.key[4]: line.requests for line in measure(before, after, 1.0)}

    assert counted == {"GET /": 3, "PUT /": 0, "DELETE /": 2}


def test_the_same_table_says_nothing_new() -> None:
    meter = Meter()
    assert meter.add(table(1), 0) is None
    assert meter.add(table(1), 1) is None


@pytest.mark.parametrize("q", [0.5, 0.9, 0.95, 0.99])
def test_quantiles_are_those_of_the_values_to_the_bucket(q: float) -> None:
    values = np.random.default_rng(1).lognormal(-5, 1.5, 5000)
    numbers, counts = np.unique(np.ceil(np.log2(values) * 8).astype(int) - 1, return_counts=True)
    line = Line(KEY, 1.0, dict(zip(numbers.tolist(), counts.tolist(), strict=True)))

    found = line.quantile(q)

    assert found == pytest.approx(np.quantile(values, q), rel=2 ** (1 / 8) - 1)


def test_without_requests_there_is_no_quantile() -> None:
    assert Line(KEY, 1.0).quantile(0.5) is None


def test_a_filter_wants_all_words() -> None:
    line = Line(KEY, 1.0)
    assert matching([line], "get SHOP") == [line]
    assert matching([line], "get mail") == []
