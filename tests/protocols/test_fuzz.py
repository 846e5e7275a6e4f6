"""The parsers on mutated streams: no crash, no over-read, always progress, however they are cut.

`fuzz.c` says what is looked for. A failure prints the stream: feed it to `host.units`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from protocols.host import HERE, compile_host, protocols

INPUTS = 1_000_000
INPUTS_ADDRESSES = 100_000  # each is some ten times slower with the address sanitizer
CORPUS = sorted((HERE / "corpus").glob("*.bin"))


def fuzz(program: Path, inputs: int, seed: int) -> dict[str, int]:
    """Returns how many inputs each protocol had."""
    done = subprocess.run(
        [program, str(inputs), str(seed), *CORPUS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    lines = [line.split() for line in done.stdout.splitlines()]
    return {name: int(count) for name, _, count, *_ in lines}


def undefined(target: Path) -> Path:
    """Compiles the driver so that what C does not define ends it."""
    flags = ("-fsanitize=undefined", "-fsanitize-trap=undefined")
    # BPF reads any address, and bpf_loop's callbacks take what they are given.
    but = "-fno-sanitize=alignment,function"
    compile_host("fuzz.c", target, sys.executable, "-m", "ziglang", "cc", "-O2", *flags, but)
    return target


def test_a_million_inputs(tmp_path: Path) -> None:
    inputs = fuzz(undefined(tmp_path / "fuzz"), INPUTS, seed=1)
    assert sum(inputs.values()) == INPUTS
    few = {name for name in protocols() if inputs[name] < INPUTS / len(protocols()) / 2}
    assert not few, "put streams of these into tests/protocols/corpus: NAME-*.bin"


def test_addresses(tmp_path: Path) -> None:
    if not shutil.which("gcc"):
        pytest.skip("no gcc (Debian: gcc): zig's compiler has no address sanitizer")
    compile_host("fuzz.c", tmp_path / "fuzz", "gcc", "-O1", "-fsanitize=address")
    inputs = fuzz(tmp_path / "fuzz", INPUTS_ADDRESSES, seed=2)
    assert sum(inputs.values()) == INPUTS_ADDRESSES


@pytest.mark.slow
def test_a_new_seed(tmp_path: Path) -> None:
    program = undefined(tmp_path / "fuzz")
    seed = int.from_bytes(os.urandom(4))
    for i in range(20):
        fuzz(program, INPUTS, seed + i)
