"""Compiles the C side when a wheel is built: each `*.bpf.c` becomes one `*.bpf.o` beside it.

The compiler is the clang inside the pinned `ziglang` package, so the bytecode is the same on
every machine. The headers of libbpf (Debian: `libbpf-dev`) are the only thing from the system.
Also a script: `python build_bpf.py` compiles in place.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BPF = Path(__file__).parent / "src" / "kernob" / "bpf"
FLAGS = (
    # Little-endian is all that x86-64 and arm64 need; v3 has the atomic exchange (Linux 5.12).
    *("-target", "bpfel-freestanding-none", "-mcpu=v3", "-O2", "-g"),
    *("-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter"),
    # Headers hold functions that not every object calls.
    "-Wno-unused-function",
    "-fno-asynchronous-unwind-tables",
)


def compile_object(source: Path) -> Path:
    """Compiles one C file and returns the path of its object file.

    Raises:
        SystemExit: libbpf's headers are missing, or the compiler refused the file.
    """
    include = Path(os.environ.get("KERNOB_LIBBPF_INCLUDE", "/usr/include"))
    if not (include / "bpf" / "bpf_helpers.h").exists():
        raise SystemExit(
            f"kernob: no bpf/bpf_helpers.h in {include}: install libbpf's headers "
            "(apt-get install libbpf-dev), or set KERNOB_LIBBPF_INCLUDE"
        )
    target = source.with_suffix(".o")
    command = [
        *(sys.executable, "-m", "ziglang", "cc"),
        *FLAGS,
        *("-I", str(BPF), "-idirafter", str(include)),
        # No path of the building machine in the debug information.
        *(f"-ffile-prefix-map={BPF}=.", "-fdebug-compilation-dir=."),
        *("-c", str(source), "-o", str(target)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"kernob: {source.name} does not compile:\n{done.stderr}")
    return target


def compile_all() -> list[Path]:
    """Compiles every C file of the package and returns the paths of the object files."""
    sources = sorted(BPF.glob("*.bpf.c"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(compile_object, sources))


class CustomBuildHook(BuildHookInterface[Any]):
    """Hatchling's hook: compiles before the files of the wheel are collected."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Compiles, and marks the wheel as pure: BPF objects run on every architecture."""
        if self.target_name == "wheel":
            compile_all()


if __name__ == "__main__":
    for path in compile_all():
        print(path)
