"""The test object, compiled as the package's own are, and loaded."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kernob.kernel.objects import Object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def compile_object() -> Callable[[Path], Path]:
    """Compiles a C file as the package's own are."""
    spec = importlib.util.spec_from_file_location("build_bpf", HERE.parents[1] / "build_bpf.py")
    assert spec is not None
    assert spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    compiler: Callable[[Path], Path] = build.compile_object
    return compiler


@pytest.fixture(scope="session")
def sample_path(
    compile_object: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The compiled sample.bpf.c."""
    copy = shutil.copy(HERE / "sample.bpf.c", tmp_path_factory.mktemp("sample"))
    return compile_object(Path(copy))


@pytest.fixture
def opened(sample_path: Path) -> Iterator[Object]:
    """The test object, opened and not loaded."""
    with Object.open(sample_path.read_bytes(), "sample") as sample:
        yield sample


@pytest.fixture
def sample(opened: Object) -> Object:
    """The test object, loaded, with this process as `parent`."""
    opened.set_constants(parent=os.getpid())
    opened.load()
    return opened


@pytest.fixture(scope="session")
def bpftool() -> Callable[..., Any]:
    """Runs bpftool, the second source of truth, and returns what its JSON says."""
    path = shutil.which("bpftool", path="/usr/sbin:/sbin:" + os.environ.get("PATH", ""))
    if path is None:
        pytest.skip("bpftool is missing (Debian: bpftool)")

    def run(*arguments: str) -> Any:
        done = subprocess.run([path, "--json", *arguments], capture_output=True, check=True)
        return json.loads(done.stdout)

    return run


@pytest.fixture
def map_dump(bpftool: Callable[..., Any]) -> Callable[[str], Any]:
    """Dumps the map of this name that this process has open: bpftool's `formatted` rows."""

    def dump(name: str) -> Any:
        for info in Path("/proc/self/fdinfo").iterdir():
            text = info.read_text() if info.exists() else ""
            number = re.search(r"^map_id:\s*(\d+)", text, re.MULTILINE)
            if number and bpftool("map", "show", "id", number[1])["name"] == name:
                rows = bpftool("map", "dump", "id", number[1])
                return [row["formatted"] for row in rows]
        raise AssertionError(f"no map {name} is open")

    return dump
