"""The wheel: what is in it, and that it needs no compiler."""

from __future__ import annotations

import shlex
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", directory],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    [built] = directory.glob("*.whl")
    return built


def test_it_carries_the_objects_and_no_source_of_them(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        objects = [name for name in names if name.endswith(".bpf.o")]
        sources = sorted(path.name for path in (ROOT / "src/kernob/bpf").glob("*.bpf.c"))
        assert sorted(Path(name).name for name in objects) == [
            name.removesuffix(".c") + ".o" for name in sources
        ]
        for name in objects:
            header = archive.read(name)[:20]
            # ELF, 64 bits, little-endian, for BPF (machine 247): for every processor.
            assert header[:6] == b"\x7fELF\x02\x01"
            assert int.from_bytes(header[18:20], "little") == 247
            assert str(ROOT).encode() not in archive.read(name)
    assert not [name for name in names if name.endswith((".c", ".h"))]
    assert wheel.name.endswith("-py3-none-any.whl")
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_it_installs_and_opens_its_objects_without_a_compiler(wheel: Path, tmp_path: Path) -> None:
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", tmp_path]
    subprocess.run([sys.executable, *install, wheel], check=True)
    script = """
import sys
sys.modules["ziglang"] = None
import kernob
from kernob.kernel import objects
assert kernob.__file__.startswith(sys.argv[1]), kernob.__file__
with objects.read("network") as network:
    print(len(network.programs), network.maps["flows"].key.itemsize)
"""

    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    programs, key_size = done.stdout.split()
    assert int(programs) > 10
    assert key_size == "32"


def test_it_says_how_to_install_an_extra_of_itself(wheel: Path, tmp_path: Path) -> None:
    """The command is pip's, and pip finds what it names."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", tmp_path, wheel], check=True)

    done = subprocess.run(
        [sys.executable, "-c", "from kernob import installed; print(installed.command('server'))"],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    command = shlex.split(done.stdout)

    assert command == [*pip[:4], f"kernob[server] @ {wheel.as_uri()}"]
    subprocess.run([*pip, "--dry-run", *command[4:]], check=True)
