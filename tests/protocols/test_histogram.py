"""The kernel's buckets, compiled for this machine, against arithmetic without rounding."""

from __future__ import annotations

import ctypes
import random
import sys
from typing import TYPE_CHECKING

import pytest

from protocols.host import compile_host

if TYPE_CHECKING:
    pass

LAST = 255
FIRST_DURATION = -160


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    target = tmp_path_factory.mktemp("histogram") / "histogram.so"
    compile_host("histogram.c", target, sys.executable, "-m", "ziglang", "cc", "-O2", "-shared")
    library = ctypes.CDLL(str(target))
    library.bucket_of_size.argtypes = library.bucket_of_duration.argtypes = (ctypes.c_uint64,)
    return library


def exact(value: int) -> int:
    """Returns the i for which 2^(i/8) < value <= 2^((i+1)/8)."""
    return (value**8 - 1).bit_length() - 1


def test_sizes_at_every_border(library: ctypes.CDLL) -> None:
    borders = [int(2 ** (eighths / 8)) for eighths in range(8 * 31)]
    values = {near for border in borders for near in (border - 1, border, border + 1) if near > 0}
    some = random.Random(1)
    values |= {some.randrange(1, 1 << bits) for bits in range(1, 60) for _ in range(50)}

    wrong = {
        value: found
        for value in values
        if (found := library.bucket_of_size(value)) != min(exact(value) + 1, LAST)
    }

    assert wrong == {}


def test_durations_amid_every_bucket(library: ctypes.CDLL) -> None:
    wrong = {
        bucket: found
        for bucket in range(LAST + 1)
        if (
            found := library.bucket_of_duration(
                round(1e9 * 2 ** ((bucket + FIRST_DURATION + 0.5) / 8))
            )
        )
        != bucket
    }

    assert wrong == {}


def test_durations_beyond(library: ctypes.CDLL) -> None:
    assert library.bucket_of_duration(0) == 0
    assert library.bucket_of_duration(900) == 0
    assert library.bucket_of_duration(1 << 62) == LAST
