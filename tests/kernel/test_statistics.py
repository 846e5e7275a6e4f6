"""Run time and run count are those of bpftool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kernob.kernel.statistics import RunTime

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernob.kernel.objects import Object

pytestmark = pytest.mark.live


def test_runs_and_their_time(sample: Object, bpftool: Callable[..., Any]) -> None:
    program = sample.programs["count_steps"]
    steps = program.attach_iterator(sample.maps["steps"])

    steps.read()
    before = program.statistics()
    timing = RunTime()
    steps.read()
    timing.close()
    timing.close()
    during = program.statistics()
    known = bpftool("prog", "show", "id", str(during.id))

    # Once for each of 100 entries, and once more at the end.
    assert (before.runs, during.runs - before.runs) == (0, 101)
    assert 0 < during.run_time_ns < 1e9
    assert (known["run_cnt"], known["run_time_ns"]) == (during.runs, during.run_time_ns)
    assert (known["name"], known["bytes_jited"]) == ("count_steps", during.machine_code)
    assert during.misses == 0
