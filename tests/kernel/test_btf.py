"""The dtypes are those that the compiler and bpftool know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from kernob.errors import KernelError
from kernob.kernel.btf import Btf

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kernob.kernel.objects import Object


def test_every_kind_of_member(opened: Object) -> None:
    everything = opened.btf.struct("everything")

    fields = {name: (field[0], field[1]) for name, field in (everything.fields or {}).items()}
    assert fields["name"] == (np.dtype("S5"), 0)
    assert fields["octets"] == (np.dtype(("u1", 3)), 5)
    assert fields["small"] == (np.dtype("i1"), 8)
    assert fields["yes"] == (np.dtype("?"), 9)
    assert fields["colour"] == (np.dtype("u4"), 12)
    assert fields["sign"] == (np.dtype("i4"), 16)
    assert fields["wide"] == (np.dtype("u8"), 24)
    assert fields["corners"][1] == 32
    assert np.zeros(5, everything)["corners"]["y"].shape == (5, 2, 3)
    assert fields["whole"] == (np.dtype("u8"), 80)
    assert (fields["low"][1], fields["high"][1]) == (80, 84)
    assert fields["named"][0]["bytes"] == np.dtype(("u1", 2))
    assert fields["pointer"] == (np.dtype("u8"), 96)
    assert fields["real"] == (np.dtype("f8"), 104)
    assert fields["huge"] == (np.dtype("V16"), 112)
    assert fields["qualified"] == (np.dtype("u8"), 128)
    assert everything.itemsize == 144


def test_offsets_and_sizes_are_those_of_bpftool(
    opened: Object, sample_path: Path, bpftool: Callable[..., Any]
) -> None:
    types = bpftool("btf", "dump", "file", str(sample_path))["types"]

    for name in ("everything", "point", "event", "value", "small"):
        known = next(t for t in types if t["kind"] == "STRUCT" and t["name"] == name)
        dtype = opened.btf.struct(name)
        assert dtype.itemsize == known["size"]
        for member in known["members"]:
            if member["name"] != "(anon)":
                assert (dtype.fields or {})[member["name"]][1] * 8 == member["bits_offset"]


def test_a_union_shows_all_its_members_at_one_place(opened: Object) -> None:
    row = np.zeros((), opened.btf.struct("everything"))

    row["whole"] = 1 << 32 | 5
    row["named"]["port"] = 0x0102

    assert (int(row["low"]), int(row["high"])) == (5, 1)
    assert row["named"]["bytes"].tolist() == [2, 1]


def test_a_bit_field_is_refused_by_name(opened: Object) -> None:
    with pytest.raises(KernelError, match=r"with_bits\.a is a bit-field"):
        opened.btf.struct("with_bits")


def test_a_struct_that_is_not_there(opened: Object) -> None:
    with pytest.raises(KernelError, match="no struct nothing"):
        opened.btf.struct("nothing")


def test_what_is_no_btf_is_refused() -> None:
    with pytest.raises(KernelError, match="no BTF"):
        Btf(b"\0" * 64)


def test_flows_of_the_network_object() -> None:
    from kernob.kernel.objects import read  # noqa: PLC0415

    with read("network") as network:
        key, value = network.maps["flows"].key, network.maps["flows"].value

    assert key.names == ("start", "address", "pid", "port", "transport", "side")
    assert key["address"] == np.dtype(("u1", 16))
    assert value["bytes"] == np.dtype(("u8", 2))
