"""Bytes are counted to the byte on the kernels of the list, too: the live tests, in guests.

Linux 6.1 takes the hooks of all kernels before 6.5 (fexit), 6.12 the tracepoints.
"""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

from bench.vm import machine, package

ROOT = Path(__file__).parents[2]
TRAFFIC = sorted((ROOT / "tests" / "live" / "traffic").glob("*.c"))
PYTEST = ("iniconfig", "packaging", "pluggy", "pytest")

KERNELS = ("6.1", "6.12")
# Of the live tests, those that move much or need many processes: all others together take less
# than the slowest of these.
HEAVY = (
    *("10_000_sockets", "more_than_4_gib", "thousand", "the_end_comes", "200_processes"),
    *("in_the_middle", "account_is_tcp_info", "full_table", "threads", "uses_one_socket_at_once"),
)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What a guest needs to run the live tests: it has neither pytest nor a compiler."""
    if missing := machine.missing_packages():
        pytest.skip(f"no virtual machine here: apt-get install {' '.join(missing)}")
    scratch = tmp_path_factory.mktemp("guest")
    # The emulated processor knows less than the host's.
    compiler = [sys.executable, "-m", "ziglang", "cc", "-O2", "-mcpu=x86_64"]
    subprocess.run([*compiler, "-o", scratch / "traffic", *TRAFFIC], check=True)
    return {
        **package.kernob_files(scratch),
        **{f"pytest/{path.name}": path for name in PYTEST for path in installed(name)},
        "traffic": scratch / "traffic",
        "pyproject.toml": ROOT / "pyproject.toml",
        "tests": ROOT / "tests",
    }


def installed(name: str) -> list[Path]:
    """Returns the folders and files of a pure Python distribution that is installed here."""
    found = distribution(name)
    tops = {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}
    return [Path(str(found.locate_file(top))) for top in sorted(tops)]


# Live tests that need no server: a guest has none, nor any client library.
ALONE = " ".join(
    f"tests/live/test_{name}.py"
    for name in ("connections", "datagrams", "processes", "requests_engine", "streams", "workshop")
)
SCRIPT = f"""#!/bin/bash
export PYTHONPATH={package.PYTHONPATH}:pytest PYTHONDONTWRITEBYTECODE=1
export KERNOB_TRAFFIC=$PWD/traffic KERNOB_COMMAND_SECONDS=300
options="-p no:cacheprovider --color=no --tb=short"
python3 -m pytest $options -k '{{tests}}' {ALONE} >"$OUT/report" 2>&1
"""


def run_live_tests(release: str, files: dict[str, Path], tests: str) -> None:
    """Runs in a guest those that the expression names; fails with their own report."""
    outcome = machine.run(release, SCRIPT.format(tests=tests), files, timeout=1800)
    report = outcome.files["report"].decode()

    assert outcome.status == 0, report
    passed = re.search(r"(\d+) passed", report)
    assert passed, report
    assert int(passed[1]) > 70, report


@pytest.mark.live
def test_every_way_to_move_bytes(files: dict[str, Path]) -> None:
    # Newer kernels have the hooks of the one that all tests run on; slow tests try them, too.
    run_live_tests("6.1", files, f"not ({' or '.join(HEAVY)})")


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.parametrize("release", KERNELS)
def test_all_live_tests(release: str, files: dict[str, Path]) -> None:
    run_live_tests(release, files, "test")


@pytest.mark.live
def test_a_kernel_too_old_is_told_in_one_line(files: dict[str, Path]) -> None:
    kernob = "python3 -c 'from kernob.cli import main; main()'"
    script = f"#!/bin/bash\nPYTHONPATH={package.PYTHONPATH} {kernob} doctor\n"

    outcome = machine.run("5.10", script, files)

    lines = outcome.console.splitlines()
    (reason,) = (line for line in lines if "this kernel is older than Linux 5.12" in line)
    assert "no eBPF" in reason
    assert any(line.startswith("counting") and "polled" in line for line in lines)
