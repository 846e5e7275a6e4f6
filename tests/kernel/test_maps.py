"""What a table reads is what bpftool reads; what it writes is there."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from kernob.errors import KernelError
from kernob.kernel.libbpf import possible_cpus

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernob.kernel.objects import Object

pytestmark = pytest.mark.live


def test_a_hash_is_read_whole(sample: Object, map_dump: Callable[[str], Any]) -> None:
    table = sample.maps["hash"].table()
    for key in range(0, 3000, 3):
        table.put(key, (key * 2, key % 7))

    keys, values = table.read()

    assert {k: tuple(v) for k, v in zip(keys.tolist(), values.tolist(), strict=True)} == {
        row["key"]: (row["value"]["count"], row["value"]["odd"]) for row in map_dump("hash")
    }
    assert len(keys) == 1000


def test_an_empty_hash(sample: Object) -> None:
    keys, values = sample.maps["hash"].table().read()

    assert (len(keys), len(values)) == (0, 0)


def test_single_keys(sample: Object) -> None:
    table = sample.maps["hash"].table()

    table.put(5, (1, 2))
    table.put(5, (3, 4))
    found = table.get(5)

    assert found is not None
    assert (int(found["count"]), int(found["odd"])) == (3, 4)
    assert table.get(6) is None
    assert table.delete(5) == 1
    assert table.delete(5) == 0
    assert table.get(5) is None


def test_struct_keys_are_given_as_tuples_or_as_read(sample: Object) -> None:
    table = sample.maps["types"].table()
    value = np.zeros((), table.value)
    value["name"], value["pointer"] = b"abc", 1 << 60

    table.put((-1, 2), value)
    keys, values = table.read()

    assert keys["x"].tolist() == [-1]
    assert (values["name"].tolist(), values["pointer"].tolist()) == ([b"abc"], [1 << 60])
    assert table.get((-1, 2)) is not None
    assert table.get(keys[0]) is not None


def test_many_keys_are_deleted_missing_ones_among_them(sample: Object) -> None:
    table = sample.maps["hash"].table()
    for key in range(10):
        table.put(key, (1, 1))

    deleted = table.delete([100, 0, 1, 101, 102, 2, 9, 103])

    assert deleted == 4
    assert sorted(table.read()[0].tolist()) == [3, 4, 5, 6, 7, 8]
    assert table.delete([]) == 0


def test_a_full_hash_says_so(sample: Object) -> None:
    table = sample.maps["hash_per_cpu"].table()
    for key in range(100):
        table.put(key, (1, 2, 3))

    with pytest.raises(KernelError, match="E2BIG"):
        table.put(100, (1, 2, 3))


def test_a_buffer_that_is_too_small_grows(sample: Object, monkeypatch: pytest.MonkeyPatch) -> None:
    table = sample.maps["hash"].table()
    for key in range(5000):
        table.put(key, (key, 0))
    # As if entries moved while they are read: more come than the map has room for. With less
    # room than a bucket the kernel says ENOSPC, with less than all entries it stops half-way.
    monkeypatch.setattr(table, "_keys", np.empty(1, table.key))
    monkeypatch.setattr(table, "_values", np.empty((1, 16), np.uint8))

    keys, values = table.read()

    assert sorted(keys.tolist()) == list(range(5000))
    assert (values["count"] == keys).all()


def test_a_changing_hash_gives_each_standing_key_once(sample: Object) -> None:
    table, other = sample.maps["hash"].table(), sample.maps["hash"].table()
    for key in range(2000):
        table.put(key, (key, 0))
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            for key in range(10_000, 10_500):
                other.put(key, (0, 0))
            other.delete(np.arange(10_000, 10_500))

    writer = threading.Thread(target=change)
    writer.start()
    try:
        for _ in range(100):
            keys, _ = table.read()
            assert len(np.unique(keys)) == len(keys)
            assert (np.sort(keys[keys < 10_000]) == np.arange(2000)).all()
    finally:
        stop.set()
        writer.join()


def test_a_hash_per_cpu(sample: Object, map_dump: Callable[[str], Any]) -> None:
    table = sample.maps["hash_per_cpu"].table()
    each = np.array([(cpu, 1, 255) for cpu in range(table.cpus)], table.value)
    table.put(7, each)
    table.put(8, (1, 2, 3))

    keys, values = table.read()

    assert table.cpus == possible_cpus()
    assert values.shape == (2, table.cpus)
    by_key = dict(zip(keys.tolist(), values.tolist(), strict=True))
    assert by_key == {
        row["key"]: [tuple(v["value"].values()) for v in row["values"]]
        for row in map_dump("hash_per_cpu")
    }
    assert by_key[7] == [(cpu, 1, 255) for cpu in range(table.cpus)]
    assert by_key[8] == [(1, 2, 3)] * table.cpus
    found = table.get(7)
    assert found is not None
    assert found["c"].tolist() == [255] * table.cpus


def test_an_lru_hash(sample: Object) -> None:
    table = sample.maps["lru"].table()

    table.put(1, 10)

    assert [part.tolist() for part in table.read()] == [[1], [10]]


def test_an_array(sample: Object, map_dump: Callable[[str], Any]) -> None:
    table = sample.maps["array"].array()
    table.put(999, (1, 2, 3))

    values = table.read()

    assert values.shape == (1000,)
    assert values.tolist() == [tuple(row["value"].values()) for row in map_dump("array")]
    assert values[999].tolist() == (1, 2, 3)


def test_an_array_per_cpu_counts_on_each_cpu(sample: Object) -> None:
    table = sample.maps["array_per_cpu"].array()
    steps = sample.programs["count_steps"].attach_iterator(sample.maps["steps"])
    allowed = os.sched_getaffinity(0)
    try:
        for cpu in allowed:
            os.sched_setaffinity(0, {cpu})
            steps.read()
    finally:
        os.sched_setaffinity(0, allowed)

    values = table.read()

    assert values.shape == (7, possible_cpus())
    assert values.sum(axis=1).tolist() == [0, 0, 0, 100 * len(allowed), 0, 0, 0]
    assert [values[3, cpu] for cpu in allowed] == [100] * len(allowed)


def test_a_mapped_array_is_live(sample: Object, map_dump: Callable[[str], Any]) -> None:
    mapped = sample.maps["mapped"].mapped()
    steps = sample.programs["count_steps"].attach_iterator(sample.maps["steps"])

    mapped["c"][1499] = 9
    steps.read()
    first = mapped["b"].sum()
    steps.read()

    assert mapped.shape == (1500,)
    assert (first, mapped["b"].sum()) == (100, 200)
    assert map_dump("mapped")[1499]["value"] == {"a": 0, "b": 0, "c": 9}
    assert map_dump("mapped")[99]["value"]["b"] == 2


def test_the_wrong_reader_is_refused(sample: Object) -> None:
    maps = sample.maps

    for wrong in (maps["array"].table, maps["hash"].array, maps["array"].mapped):
        with pytest.raises(KernelError):
            wrong()
    with pytest.raises(KernelError, match="not a ring buffer"):
        maps["hash"].ring("event")


def test_memory_of_a_map(sample: Object) -> None:
    assert sample.maps["array"].memory() >= 1000 * 8


def test_repeated_reads_take_no_memory(sample: Object) -> None:
    table = sample.maps["hash"].table()
    steps = sample.programs["count_steps"].attach_iterator(sample.maps["steps"])
    ring = sample.maps["ring"].ring("event")
    filler = sample.programs["fill_ring"].attach_iterator(sample.maps["steps"])
    for key in range(5000):
        table.put(key, (1, 1))

    def read() -> None:
        table.read()
        steps.read()
        filler.read()
        ring.read()

    for _ in range(100):
        read()
    before = _resident()
    for _ in range(1000):
        read()

    assert _resident() - before < 1 << 20


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
