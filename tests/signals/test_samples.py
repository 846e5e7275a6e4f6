"""The clock of samples; all else of them is tested with real requests in tests/live."""

from __future__ import annotations

import time

from kernob.signals.samples import clock_offset

MICROSECOND = 1000


def test_the_offset_of_the_clocks_is_exact_to_some_microseconds() -> None:
    offsets = [clock_offset() for _ in range(200)]

    # A clock that is steered meanwhile drifts by less than half a microsecond each millisecond.
    assert max(offsets) - min(offsets) < 100 * MICROSECOND
    middle = sorted(offsets)[100]
    assert sum(abs(offset - middle) < 2 * MICROSECOND for offset in offsets) > 150
    assert abs(time.monotonic_ns() + middle - time.time_ns()) < 1_000_000
