"""Objects open, take their configuration and load what the kernel takes of them."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kernob.errors import KernelError
from kernob.kernel.objects import Object, read

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.live

REFUSED = {"reads_too_far", "reads_no_such_field", "hangs_nowhere"}


def test_refused_programs_leave_the_others_loaded(sample: Object) -> None:
    loaded = {name for name, program in sample.programs.items() if program.loaded}

    assert set(sample.failures) == REFUSED
    assert loaded == set(sample.programs) - REFUSED - {"off"}


def test_reasons_are_the_last_words_of_the_verifier(sample: Object) -> None:
    assert "invalid mem access 'map_value_or_null'" in sample.failures["reads_too_far"]
    assert "the kernel refuses it: Permission denied (EACCES)" in sample.failures["reads_too_far"]
    assert "<invalid CO-RE relocation>" in sample.failures["reads_no_such_field"]
    assert "no_such_tracepoint" in sample.failures["hangs_nowhere"]


def test_a_refused_program_says_so_where_it_is_used(sample: Object) -> None:
    with pytest.raises(
        KernelError, match=r"reads_too_far is not in the kernel: the kernel refuses it"
    ):
        sample.programs["reads_too_far"].attach()


def test_programs_are_switched_off_and_on(opened: Object) -> None:
    opened.disable("typed_exit")
    opened.enable("off")

    opened.load()

    assert not opened.programs["typed_exit"].loaded
    assert opened.programs["off"].loaded


def test_constants_and_sizes_survive_the_retries(
    opened: Object, map_dump: Callable[[str], Any]
) -> None:
    opened.set_constants(parent=1234, factors=[9, 8, 7], origin=(-1, -2))
    opened.maps["array"].resize(321)

    opened.load()

    assert len(map_dump("array")) == 321
    assert _variables(map_dump("sample.rodata")) == {
        "parent": 1234,
        "factors": [9, 8, 7],
        "origin": {"x": -1, "y": -2},
    }


def _variables(dump: Any) -> dict[str, Any]:
    """What bpftool says of the variables of a data section."""
    (row,) = dump
    (section,) = row["value"].values()
    return {name: value for variable in section for name, value in variable.items()}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nothing": 1}, "no constant nothing"),
        ({"parent": 1 << 40}, "constant parent can't be"),
        ({"factors": [1, 2]}, "constant factors can't be"),
    ],
)
def test_wrong_constants_are_refused(opened: Object, values: dict[str, Any], message: str) -> None:
    with pytest.raises(KernelError, match=message):
        opened.set_constants(**values)


def test_too_late_to_configure(sample: Object) -> None:
    changes: list[Callable[[], None]] = [
        lambda: sample.set_constants(parent=1),
        lambda: sample.maps["hash"].resize(1),
        lambda: sample.disable("tick"),
        sample.load,
    ]

    for change in changes:
        with pytest.raises(KernelError, match="too late"):
            change()


def test_variables_are_live(sample: Object, map_dump: Callable[[str], Any]) -> None:
    assert int(sample.variables["initialised"]) == 42

    sample.variables["hits"][7] = 99
    sample.variables["initialised"][...] = 43

    assert _variables(map_dump("sample.bss"))["hits"][7] == 99
    assert _variables(map_dump("sample.data"))["initialised"] == 43


def test_variables_outlive_the_object(sample: Object) -> None:
    hits = sample.variables["hits"]
    hits[0] = 5

    sample.close()
    gc.collect()

    assert hits[0] == 5


def test_maps_are_shared_by_name(sample: Object, sample_path: Path) -> None:
    sample.maps["hash"].table().put(1, (11, 12))

    with Object.open(sample_path.read_bytes(), "second") as second:
        second.share(sample.maps["hash"])
        second.load()
        found = second.maps["hash"].table().get(1)
        second.maps["hash"].table().put(2, (21, 22))

    assert found is not None
    assert found.tolist() == (11, 12)
    assert sample.maps["hash"].table().get(2) is not None


def test_maps_of_other_types_are_not_shared(
    sample: Object, compile_object: Callable[[Path], Path], tmp_path: Path
) -> None:
    source = tmp_path / "other.bpf.c"
    source.write_text(
        """
        #include "include/kernel.h"
        #include <bpf/bpf_helpers.h>
        struct {
            __uint(type, BPF_MAP_TYPE_HASH);
            __uint(max_entries, 1);
            __type(key, __u64);
            __type(value, __u64);
        } hash SEC(".maps");
        """
    )
    with Object.open(compile_object(source).read_bytes(), "other") as other:
        with pytest.raises(KernelError, match="map hash of object other has other types"):
            other.share(sample.maps["hash"])
        with pytest.raises(KernelError, match="object other has no map ring"):
            other.share(sample.maps["ring"])


def test_a_closed_object_says_so(sample: Object) -> None:
    hash_, table = sample.maps["hash"], sample.maps["hash"].table()

    sample.close()
    sample.close()

    with pytest.raises(KernelError, match="closed"):
        hash_.fd  # noqa: B018
    with pytest.raises(KernelError, match="closed"):
        table.read()


def test_what_is_no_object_is_refused() -> None:
    with pytest.raises(KernelError, match="can't open object nonsense"):
        Object.open(b"\x7fELF nonsense", "nonsense")
    with pytest.raises(KernelError, match="no compiled object nothing"):
        read("nothing")


def test_nothing_stays_open(sample_path: Path) -> None:
    def once() -> None:
        with Object.open(sample_path.read_bytes(), "sample") as opened:
            opened.set_constants(parent=os.getpid())
            opened.load()
            opened.programs["typed_exit"].attach()
            opened.programs["tick"].attach_clock(10)
            opened.programs["count_steps"].attach_iterator(opened.maps["steps"]).read()
            opened.maps["ring"].ring("event").read()
            opened.maps["mapped"].mapped()
            assert opened.variables

    once()
    gc.collect()
    before = _open_files()
    once()
    gc.collect()

    assert _open_files() == before


def _open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


CHILD = """
import sys, time
from pathlib import Path
from kernob.kernel.objects import Object
sample = Object.open(Path(sys.argv[1]).read_bytes(), "sample")
sample.load()
sample.programs["typed_exit"].attach()
sample.programs["tick"].attach_clock(10)
print(*(p.statistics().id for p in sample.programs.values() if p.loaded), flush=True)
time.sleep(60)
"""


def test_a_killed_process_leaves_nothing_attached(
    sample_path: Path, bpftool: Callable[..., Any]
) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, sample_path], stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None
        ids = {int(word) for word in child.stdout.readline().split()}
        during = {program["id"] for program in bpftool("prog", "show")}
        child.send_signal(signal.SIGKILL)

    assert len(ids) > 5
    assert ids <= during
    deadline = time.monotonic() + 10
    while ids & {program["id"] for program in bpftool("prog", "show")}:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_without_privileges_the_reason_is_clear(sample_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from kernob.errors import KernelError
from kernob.kernel import features
from kernob.kernel.objects import Object
data = Path(sys.argv[1]).read_bytes()
os.setgroups([]); os.setgid(65534); os.setuid(65534)
print(features.probe())
try:
    Object.open(data, "sample").load()
except KernelError as exc:
    print(exc)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, sample_path],
        capture_output=True,
        text=True,
        check=True,
    )

    assert "this process lacks CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN" in done.stdout
    assert "can't load object sample: Operation not permitted (EPERM)" in done.stdout
    assert "run as root" in done.stdout
    assert not done.stderr


def test_the_network_object_counts_to_the_byte() -> None:
    import socket  # noqa: PLC0415

    sent = 1_234_567
    with read("network") as network:
        network.load()
        for name in ("send_length", "receive_length", "set_state", "process_exit"):
            network.programs[name].attach()
        drain = network.programs["drain_connections"].attach_iterator(network.maps["connections"])
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            with socket.create_connection(("127.0.0.1", port)) as client:
                accepted, _ = server.accept()
                with accepted:
                    left = sent
                    while left:
                        left -= client.send(b"x" * min(left, 50_000))
                    received = 0
                    while received < sent:
                        received += len(accepted.recv(65536))
                    drain.read()
                    keys, values = network.maps["flows"].table().read()

    ours = (keys["pid"] == os.getpid()) & (keys["port"] == port)
    ours &= keys["address"].any(axis=1) & (keys["address"][:, 12] == 127)
    assert values[ours]["bytes"].sum(axis=0).tolist() == [sent, sent]
