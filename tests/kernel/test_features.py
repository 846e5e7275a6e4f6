"""What can be tried is what /proc and bpftool say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernob.errors import KernelError
from kernob.kernel import features


@pytest.mark.live
def test_this_kernel() -> None:
    found = features.probe()

    assert found.release == os.uname().release
    assert found.refusal == ""
    assert found.btf
    assert features.missing_capabilities() == []


@pytest.mark.live
def test_helpers_and_program_types() -> None:
    raw_tracepoint, ringbuf_reserve = 17, 131

    assert features.has_program_type(raw_tracepoint)
    assert features.has_helper(raw_tracepoint, ringbuf_reserve)
    assert not features.has_helper(raw_tracepoint, 100_000)
    with pytest.raises(KernelError, match="can't try program type 100000"):
        features.has_program_type(100_000)
    with pytest.raises(KernelError, match="program type 26 can't be tried by itself"):
        features.has_program_type(26)


@pytest.mark.live
def test_kernel_functions_are_those_of_kallsyms() -> None:
    known = {line.split()[2] for line in Path("/proc/kallsyms").read_text().splitlines()}

    for name in ("inet_sendmsg", "tcp_sendmsg", "inet_sendpage", "no_such_function"):
        assert features.has_kernel_function(name) == (name in known)


def test_without_privileges() -> None:
    code = """
import os
from kernob.kernel import features
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
print(features.refusal())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == (
        "this process lacks CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN: Operation not permitted (EPERM)\n"
    )
