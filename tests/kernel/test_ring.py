"""Rings: filled by a program, and made by hand where no program can hold still."""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING

import numpy as np
import pytest

from kernob.errors import KernelError
from kernob.kernel.ring import Ring

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernob.kernel.objects import Object

PAGE = mmap.PAGESIZE
BUSY, DISCARDED = 1 << 31, 1 << 30
RECORD = np.dtype([("number", np.uint64), ("index", np.uint32)])  # 12 bytes: padded to 16


@pytest.mark.live
def test_records_come_in_order_over_many_wraps(sample: Object) -> None:
    ring = sample.maps["ring"].ring("event")
    filler = sample.programs["fill_ring"].attach_iterator(sample.maps["steps"])

    seen: list[int] = []
    for _ in range(50):
        filler.read()
        records = ring.read()
        seen += records["index"].tolist()
        assert (records["number"] == 3).all()

    # 120,000 bytes through 4,096, and the record does not divide it.
    assert seen == list(range(5000))
    assert int(sample.variables["lost"]) == 0
    assert len(ring.read()) == 0


@pytest.mark.live
def test_discarded_records_never_come(sample: Object) -> None:
    ring = sample.maps["ring"].ring("event")
    filler = sample.programs["fill_ring"].attach_iterator(sample.maps["steps"])
    sample.variables["discard_every"][...] = 3

    filler.read()
    records = ring.read()

    assert records["index"].tolist() == [i for i in range(100) if i % 3]
    assert ring.backlog() == 0


@pytest.mark.live
def test_what_finds_no_room_is_counted(sample: Object) -> None:
    ring = sample.maps["ring"].ring("event")
    filler = sample.programs["fill_ring"].attach_iterator(sample.maps["steps"])

    for _ in range(3):
        filler.read()
    kept = ring.read()

    assert len(kept) == 4096 // 24
    assert int(sample.variables["lost"]) == 300 - len(kept)
    filler.read()
    assert len(ring.read()) == 100


@pytest.mark.live
def test_records_are_the_callers_own(sample: Object) -> None:
    ring = sample.maps["ring"].ring("event")
    filler = sample.programs["fill_ring"].attach_iterator(sample.maps["steps"])
    filler.read()
    records = ring.read()

    for _ in range(3):
        filler.read()
        ring.read()

    assert records["index"].tolist() == list(range(100))


@pytest.mark.live
def test_another_record_is_refused(sample: Object) -> None:
    ring = sample.maps["ring"].ring("value")
    smaller = sample.maps["ring"].ring("small")
    sample.programs["fill_ring"].attach_iterator(sample.maps["steps"]).read()

    assert len(ring.read()) == 100  # of the same size: nothing can tell
    sample.programs["fill_ring"].attach_iterator(sample.maps["steps"]).read()
    with pytest.raises(KernelError, match="ring ring holds other records"):
        smaller.read()


class Handmade:
    """A ring's memory, made by hand: what the kernel would have written, frozen."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        os.ftruncate(fd, 4 * PAGE)
        self._consumer: np.ndarray = np.frombuffer(mmap.mmap(fd, PAGE), np.uint64, 1)
        self._rest = np.frombuffer(mmap.mmap(fd, 3 * PAGE, offset=PAGE), np.uint8)
        self.produced = 0

    def write(self, index: int, flags: int = 0, length: int = RECORD.itemsize) -> None:
        data = np.zeros(24, np.uint8)
        data[:4].view(np.uint32)[0] = length | flags
        data[8:20].view(RECORD)[0] = (index * 10, index)
        for half in (0, PAGE):  # both mappings of the data
            places = PAGE + half + (self.produced + np.arange(24)) % PAGE
            self._rest[places] = data
        self.produced += 24
        self._rest[:8].view(np.uint64)[0] = self.produced

    def start_at(self, position: int) -> None:
        self.produced = position
        self._consumer[0] = self._rest[:8].view(np.uint64)[0] = position

    def finish(self, position: int, flags: int = 0) -> None:
        for half in (0, PAGE):
            at = PAGE + half + position % PAGE
            self._rest[at : at + 4].view(np.uint32)[0] = RECORD.itemsize | flags


@pytest.fixture
def handmade() -> Iterator[Handmade]:
    fd = os.memfd_create("ring")
    yield Handmade(fd)
    os.close(fd)


def test_a_busy_record_holds_back_all_behind_it(handmade: Handmade) -> None:
    ring = Ring("handmade", handmade.fd, PAGE, RECORD)
    for index, flags in enumerate((0, DISCARDED, 0, BUSY, 0)):
        handmade.write(index, flags)

    before = ring.read()["index"].tolist()
    meanwhile = ring.read()["index"].tolist()
    handmade.finish(3 * 24)
    after = ring.read()["index"].tolist()

    assert (before, meanwhile, after) == ([0, 2], [], [3, 4])
    assert ring.backlog() == 0


def test_a_busy_record_that_is_discarded(handmade: Handmade) -> None:
    ring = Ring("handmade", handmade.fd, PAGE, RECORD)
    handmade.write(0, BUSY)
    handmade.write(1)

    assert len(ring.read()) == 0
    handmade.finish(0, DISCARDED)
    assert ring.read()["index"].tolist() == [1]


def test_positions_beyond_32_bits_and_across_the_end(handmade: Handmade) -> None:
    start = (1 << 33) * 3 - 24 * 2 - 8
    handmade.start_at(start)
    ring = Ring("handmade", handmade.fd, PAGE, RECORD)
    for index in range(100):
        handmade.write(index)

    records = ring.read()

    assert records["index"].tolist() == list(range(100))
    assert records["number"].tolist() == [10 * i for i in range(100)]


def test_a_reader_goes_on_where_the_last_one_stopped(handmade: Handmade) -> None:
    handmade.write(0)
    Ring("handmade", handmade.fd, PAGE, RECORD).read()
    handmade.write(1)

    assert Ring("handmade", handmade.fd, PAGE, RECORD).read()["index"].tolist() == [1]


def test_a_record_of_another_length_is_refused(handmade: Handmade) -> None:
    ring = Ring("handmade", handmade.fd, PAGE, RECORD)
    handmade.write(0, length=13)

    with pytest.raises(KernelError, match="other records"):
        ring.read()
