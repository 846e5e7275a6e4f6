"""What all tests share: which of them this machine can run, a Collector, and certificates.

A test marked `live` needs a kernel and privileges that let programs be loaded. Elsewhere it is
skipped with the reason. With `CI=true`, on a machine that can run them, a live test, or one marked
`server`, that is skipped all the same (a server or a tool is missing) fails.
"""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from collector import Collector
from kernob.errors import KernelError
from kernob.kernel.libbpf import library
from servers import Certificates

if TYPE_CHECKING:
    from collections.abc import Generator

BPF_PROG_TYPE_RAW_TRACEPOINT = 17  # linux/bpf.h


@functools.cache
def why_not_live() -> str:
    """Returns why no program can be loaded here, or nothing if it can."""
    if not Path("/sys/kernel/btf/vmlinux").exists():
        return "this kernel has no BTF"
    try:
        probed = library().libbpf_probe_bpf_prog_type(BPF_PROG_TYPE_RAW_TRACEPOINT, None)
    except KernelError as exc:
        return str(exc)
    return "" if probed == 1 else "loading programs needs root (CAP_BPF) and a kernel that lets it"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("live") and why_not_live():
        pytest.skip(why_not_live())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if (
        report.skipped
        and not hasattr(report, "wasxfail")
        and (item.get_closest_marker("live") or item.get_closest_marker("server"))
        and os.environ.get("CI") == "true"
        and not why_not_live()
    ):
        report.outcome = "failed"
        report.longrepr = f"a live test was skipped, and this machine can run it: {report.longrepr}"
    return report


COLLECTOR = Path(__file__).parents[1] / "tools" / "collector.sh"


@pytest.fixture(scope="session")
def collector_binary() -> str:
    found = subprocess.run([COLLECTOR, "--path"], capture_output=True, text=True, check=True)
    path = found.stdout.strip()
    if not os.access(path, os.X_OK):
        pytest.skip("the OpenTelemetry Collector is missing: tools/collector.sh builds it")
    return path


@pytest.fixture
def collector(collector_binary: str, tmp_path: Path) -> Collector:
    return Collector(collector_binary, tmp_path)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments: object) -> None:
        command = ["openssl", *map(str, arguments)]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for ca in ("ca", "other"):
        openssl("req", "-x509", *key, "-keyout", f"{ca}.key", "-out", f"{ca}.pem", "-subj",
                f"/CN={ca}", "-days", 2, "-addext", "keyUsage=critical,keyCertSign")  # fmt: skip
    for name, ca in (("server", "ca"), ("client", "ca"), ("stranger", "other")):
        extension = folder / f"{name}.ext"
        extension.write_text(
            "subjectAltName=IP:127.0.0.1,DNS:localhost\n"
            "authorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n"
        )
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj",
                f"/CN={name}")  # fmt: skip
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key",
                "-CAcreateserial", "-extfile", extension.name, "-out", f"{name}.pem",
                "-days", 2)  # fmt: skip
    return Certificates(
        folder / "ca.pem",
        folder / "server.pem",
        folder / "server.key",
        folder / "client.pem",
        folder / "client.key",
        folder / "stranger.pem",
        folder / "stranger.key",
    )
