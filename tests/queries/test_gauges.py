import time

import numpy as np

from kernob.queries.gauges import latest, levels
from kernob.queries.model import Range
from kernob.store.store import Store
from snapshots import Point, Sender, send

NOW = time.time_ns() // 10**9 // 60 * 60_000


def test_levels_are_means_of_each_step_added_up_by_label(store: Store) -> None:
    values = {0: 10, 4: 20, 10: 30, 31: 7}
    for name in ("x", "y"):
        points = [
            Sender("a", NOW).snapshot(
                NOW - 120_000 + at * 1000, Point("level", v, {"name": name}, gauge=True)
            )
            for at, v in values.items()
        ]
        send(store, *points)
    asked = Range(NOW - 120_000, NOW - 80_000, 10_000, "points")

    found = levels(store.reader(), "level", asked, {"host": "Host"})

    assert found.labels == {"host": ["a"]}
    np.testing.assert_array_equal(found.values, [[30, 60, np.nan, 14]])

    rollup = Range(NOW - 120_000, NOW, 60_000, "points_1m")
    np.testing.assert_array_equal(
        levels(store.reader(), "level", rollup, {"host": "Host"}).values, [[33.5, np.nan]]
    )


def test_the_latest_values_of_series_that_live(store: Store) -> None:
    now = time.time_ns() // 1_000_000
    asked = Range(now - 900_000, now + 5000, 5000, "points", 5000)
    sent = {"falls": [(20_000, 9), (1000, 4)], "ended": [(120_000, 100), (90_000, 50)]}
    for name, points in sent.items():
        for ago, value in points:
            point = Point("open", value, {"name": name})
            send(store, Sender("a", now - 900_000).snapshot(now - ago, point))

    assert latest(store.reader(), "open", asked, "Attributes['name']") == {"falls": 4}
