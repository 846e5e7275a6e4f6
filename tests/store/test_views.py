"""Exponential histograms in the narrow tables."""

import time

from kernob import config
from kernob.store.store import Store
from snapshots import Durations, Sender, send

MINUTE = 60_000
HOUR = 60 * MINUTE
BASE = time.time_ns() // 1_000_000 // HOUR * HOUR - 2 * HOUR
TIERS = ("", "_1m", "_5m", "_1h")


def held(store: Store, tier: str) -> list[tuple[int, int]]:
    """Returns minute and count of each row, merged."""
    store.engine.command(f"OPTIMIZE TABLE otel.kernob_histograms{tier} FINAL")
    found = store.reader().read(
        f"SELECT toUnixTimestamp64Milli(Time) AS time, Count FROM otel.kernob_histograms{tier} "
        "ORDER BY Time"
    )
    return [((row["time"] - BASE) // MINUTE, row["Count"]) for row in found.to_pylist()]


def test_rollups_keep_the_last_histogram_of_each_step(store: Store) -> None:
    sender = Sender("web-1", BASE)
    bodies = [
        sender.snapshot(BASE + at * MINUTE // 2, Durations("lasted", (0.1,) * (at + 1)))
        for at in range(24)
    ]
    send(store, *reversed(bodies[:12]))
    send(store, *bodies[6:])

    found = {tier: held(store, tier) for tier in TIERS}

    assert len(found[""]) == 24
    assert found["_1m"] == [(at, 2 * at + 2) for at in range(12)]
    assert found["_5m"] == [(0, 10), (5, 20), (10, 24)]
    assert found["_1h"] == [(0, 24)]


def test_increments_stay_as_they_came(store: Store) -> None:
    sender = Sender("web-1", BASE, temporality=1)
    points = [Durations("grew", (0.1, 0.0), {"service.name": "shop"}) for _ in range(3)]
    send(store, *(sender.snapshot(BASE + at * 9_000, one) for at, one in enumerate(points)))

    for tier in TIERS:
        assert [count for _, count in held(store, tier)] == [2, 2, 2]
    row = store.reader().read("SELECT * FROM otel.kernob_histograms_1h LIMIT 1").to_pylist()[0]
    assert (row["Service"], row["Zeros"], sum(row["Buckets"])) == ("shop", 1, 1)


def test_a_store_of_version_2_gets_the_tables(settings: config.Store) -> None:
    store = Store.open(settings)
    store.engine.command("DROP VIEW otel.kernob_histograms_sent")
    for tier in ("_1m", "_5m", "_1h"):
        store.engine.command(f"DROP VIEW otel.kernob_histograms_rollup{tier}")
    for tier in TIERS:
        store.engine.command(f"DROP TABLE otel.kernob_histograms{tier}")
    store.engine.command("TRUNCATE TABLE otel.kernob_schema")
    store.engine.command("INSERT INTO otel.kernob_schema (Version) VALUES (2)")
    store.close()

    store = Store.open(settings)

    try:
        send(store, Sender("web-1", BASE).snapshot(BASE, Durations("new", (0.1,))))
        assert held(store, "_1h") == [(0, 1)]
    finally:
        store.close()
