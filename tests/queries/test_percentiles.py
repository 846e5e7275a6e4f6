"""Percentiles against numpy's of the very samples."""

import time

import numpy as np
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from kernob.queries.model import Range
from kernob.queries.percentiles import percentiles
from kernob.store.engine import Signal
from kernob.store.store import Store

BASE = time.time_ns() // 10**9 // 60 * 60_000 - 3_600_000
QUANTILES = (0.0, 0.5, 0.9, 0.99, 1.0)
LABELS = {"service": "ServiceName"}


def histogram(
    metric: str,
    samples: np.ndarray,
    at: int,
    *,
    scale: int = 3,
    start: int = BASE,
    service: str = "shop",
    temporality: int = 2,
) -> bytes:
    """Returns a request with one histogram of samples, at a time in seconds after BASE."""
    request = ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    resource.resource.attributes.add(key="service.name").value.string_value = service
    made = resource.scope_metrics.add().metrics.add(name=metric, unit="s")
    made.exponential_histogram.aggregation_temporality = temporality
    point = made.exponential_histogram.data_points.add(
        start_time_unix_nano=start * 10**6,
        time_unix_nano=(BASE + at * 1000) * 10**6,
        count=len(samples),
        sum=samples.sum(),
        scale=scale,
        zero_count=int((samples == 0).sum()),
    )
    index = np.ceil(np.log2(samples[samples > 0]) * 2**scale).astype(int) - 1
    if len(index):
        point.positive.offset = int(index.min())
        point.positive.bucket_counts.extend(np.bincount(index - index.min()).tolist())
    return request.SerializeToString()


def ask(store: Store, metric: str, steps: int = 2):  # type: ignore[no-untyped-def]
    asked = Range(BASE, BASE + steps * 10_000, 10_000, "points")
    return percentiles(store.reader(), metric, asked, QUANTILES, LABELS)


@pytest.mark.parametrize("scale", [0, 3, 8])
def test_percentiles_are_numpys_within_a_bucket(store: Store, scale: int) -> None:
    samples = np.random.default_rng(scale).lognormal(-3, 1.5, 5000)
    metric = f"one.{scale}"
    store.write(Signal.METRICS, [histogram(metric, samples, 5, scale=scale)])

    found = ask(store, metric)

    expected = np.quantile(samples, QUANTILES)
    error = 2.0 ** (2.0**-scale) - 1
    assert found.scale == scale
    assert found.values[0, :, 0] == pytest.approx(expected, rel=error * 1.01)
    assert np.isnan(found.values[0, :, 1]).all()
    assert found.counts.tolist() == [[5000, 0]]


def test_scales_are_put_together_and_steps_told_apart(store: Store) -> None:
    rng = np.random.default_rng(1)
    slow, fast = rng.lognormal(0, 1, 3000), rng.lognormal(-4, 0.3, 3000)
    store.write(
        Signal.METRICS,
        [
            histogram("mixed", slow[:1000], 2, scale=5),
            # Cumulative: what was there stays in.
            histogram("mixed", slow, 8, scale=3),
            histogram("mixed", np.concatenate([slow, fast]), 15, scale=3),
            histogram("mixed", fast, 15, scale=6, service="bank"),
        ],
    )

    found = ask(store, "mixed")

    error = 2.0 ** (2.0**-3) - 1
    at = found.labels["service"].index("shop")
    assert found.values[at, :, 0] == pytest.approx(np.quantile(slow, QUANTILES), rel=error)
    assert found.values[at, :, 1] == pytest.approx(np.quantile(fast, QUANTILES), rel=error)
    assert found.counts[at].tolist() == [3000, 3000]
    assert found.counts[1 - at].tolist() == [0, 3000]


def test_increments_are_added_up_and_zeros_are_zero(store: Store) -> None:
    samples = np.concatenate([np.zeros(60), np.full(40, 2.0)])
    bodies = [histogram("delta", samples, at, temporality=1, start=BASE + at) for at in (1, 4, 7)]
    store.write(Signal.METRICS, bodies)

    found = ask(store, "delta")

    assert found.counts.tolist() == [[300, 0]]
    assert found.values[0, :2, 0].tolist() == [0, 0]
    assert found.values[0, 2:, 0] == pytest.approx([2.0] * 3, rel=0.1)


def test_an_older_histogram_is_where_counting_begins(store: Store) -> None:
    old, new = np.full(500, 8.0), np.full(100, 0.5)
    store.write(
        Signal.METRICS,
        [
            histogram("old", old, 1, start=BASE - 10**8),
            histogram("old", np.concatenate([old, new]), 12, start=BASE - 10**8),
        ],
    )

    found = ask(store, "old")

    assert found.counts.tolist() == [[0, 100]]
    assert found.values[0, 1, 1] == pytest.approx(0.5, rel=0.1)


def test_nothing_recorded_is_no_row(store: Store) -> None:
    assert ask(store, "none").values.shape == (0, 5, 2)
