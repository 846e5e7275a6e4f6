"""Capabilities against what /proc says of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernob.kernel import capabilities


def effective() -> int:
    status = Path("/proc/thread-self/status").read_text()
    return int(status.partition("CapEff:")[2].split()[0], 16)


def test_held_is_what_proc_says() -> None:
    bits = effective()

    assert capabilities.held() == {
        name for name, bit in capabilities.BITS.items() if bits >> bit & 1
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="needs capabilities to give up")
def test_the_rest_is_given_up_for_good() -> None:
    script = """
from kernob.kernel import capabilities
print(sorted(capabilities.keep_only({"CAP_SYS_PTRACE"})))
print(sorted(capabilities.keep_only({"CAP_SYS_PTRACE", "CAP_SYS_ADMIN"})))
print(open("/proc/self/status").read().partition("CapPrm:")[2].split()[0])
"""

    out = subprocess.check_output([sys.executable, "-c", script], text=True).splitlines()

    assert out[:2] == ["['CAP_SYS_PTRACE']", "['CAP_SYS_PTRACE']"]
    assert int(out[2], 16) == 1 << capabilities.BITS["CAP_SYS_PTRACE"]
