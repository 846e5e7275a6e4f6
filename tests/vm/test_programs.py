"""Every program of every object loads and attaches on the kernels of the list."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.vm import machine

ROOT = Path(__file__).parents[2]
OBJECTS = sorted((ROOT / "src" / "kernob" / "bpf").glob("*.bpf.o"))

# The kernel has no such hook: sock_send_length and sock_recv_length came with 6.3, sendpage
# went with 6.5. A program's name ends with that of its hook; signals use the one or the other.
HOOKLESS = {"6.1": "send_length,receive_length", "6.12": "inet_send_page"}


@pytest.mark.live
@pytest.mark.parametrize("release", HOOKLESS)
def test_every_program_loads_and_attaches(release: str) -> None:
    if missing := machine.missing_packages():
        pytest.skip(f"no virtual machine here: apt-get install {' '.join(missing)}")
    files = {path.name: path for path in [ROOT / "bench" / "vm" / "load.py", *OBJECTS]}

    outcome = machine.run(
        release,
        f'#!/bin/bash\npython3 load.py check {HOOKLESS[release]} *.bpf.o > "$OUT/programs"\n',
        files,
    )

    assert outcome.status == 0, outcome.console
    programs = [json.loads(line) for line in outcome.files["programs"].splitlines()]
    assert {program["object"] for program in programs} == {path.name for path in OBJECTS}
    assert [each["error"] for each in programs if each["error"]] == []
