"""Iterators are read whole, again and again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from kernob.errors import KernelError

if TYPE_CHECKING:
    from kernob.kernel.objects import Object

pytestmark = pytest.mark.live


def test_a_walk_over_tasks_is_proc(sample: Object) -> None:
    tasks = sample.programs["list_tasks"].attach_iterator()

    def standing() -> set[int]:
        return {int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()}

    before = standing()
    pids = tasks.records(np.dtype(np.int32)).tolist()
    after = standing()

    assert os.getpid() in pids
    # A sandbox may hide its first process from BPF.
    assert (before & after) - {1} <= set(pids)
    assert len(set(pids)) == len(pids)


def test_a_walk_over_a_map_gives_a_record_an_entry(sample: Object) -> None:
    steps = sample.programs["count_steps"].attach_iterator(sample.maps["steps"])

    for _ in range(3):
        records = steps.records(sample.btf.struct("event"))
        assert records["index"].tolist() == list(range(100))
        assert (records["number"] == 8).all()  # origin.y


def test_more_than_the_kernels_buffer(opened: Object) -> None:
    opened.maps["steps"].resize(50_000)
    opened.load()
    steps = opened.programs["count_steps"].attach_iterator(opened.maps["steps"])

    records = steps.records(opened.btf.struct("event"))

    assert (records["index"] == np.arange(50_000)).all()


def test_a_map_that_can_not_be_walked(sample: Object) -> None:
    with pytest.raises(KernelError, match="can't attach program count_steps"):
        sample.programs["count_steps"].attach_iterator()


def test_other_records_are_refused(sample: Object) -> None:
    steps = sample.programs["count_steps"].attach_iterator(sample.maps["steps"])

    with pytest.raises(KernelError, match="other records"):
        steps.records(np.dtype("V7"))


def test_a_closed_iterator_says_so(sample: Object) -> None:
    steps = sample.programs["count_steps"].attach_iterator(sample.maps["steps"])

    sample.close()

    with pytest.raises(KernelError, match="link is closed"):
        steps.read()
