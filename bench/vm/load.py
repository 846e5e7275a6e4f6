"""Runs in the guest: loads BPF objects with nothing but libbpf and Python's standard library.

`load.py check SUFFIXES OBJECT...` loads and attaches every program whose name ends with none of the
suffixes (a list with commas), and prints one line of JSON for each: object, program, and the error,
if any, with the verifier's last lines. `load.py hold
OBJECT` attaches those on tracepoints, says so, and stays until its standard input ends.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from ctypes import c_char_p, c_int, c_size_t, c_void_p
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

libbpf = ctypes.CDLL("libbpf.so.1", use_errno=True)
for name, result, arguments in (
    ("bpf_object__open", c_void_p, [c_char_p]),
    ("bpf_object__load", c_int, [c_void_p]),
    ("bpf_object__close", None, [c_void_p]),
    ("bpf_object__next_program", c_void_p, [c_void_p, c_void_p]),
    ("bpf_program__name", c_char_p, [c_void_p]),
    ("bpf_program__set_autoload", c_int, [c_void_p, ctypes.c_bool]),
    ("bpf_program__attach", c_void_p, [c_void_p]),
    ("bpf_program__attach_cgroup", c_void_p, [c_void_p, c_int]),
    ("bpf_program__section_name", c_char_p, [c_void_p]),
    ("bpf_program__set_log_buf", c_int, [c_void_p, c_char_p, c_size_t]),
):
    function = getattr(libbpf, name)
    function.restype, function.argtypes = result, arguments
# Its own words are kept by set_log_buf.
libbpf.libbpf_set_print(None)

LOG = ctypes.create_string_buffer(1 << 20)
LAST_LINES = 25


def programs(object_: int) -> Iterator[int]:
    """Yields the programs of an object that is open."""
    program = libbpf.bpf_object__next_program(object_, None)
    while program:
        yield program
        program = libbpf.bpf_object__next_program(object_, program)


def attach(program: int) -> str:
    """Attaches a loaded program; returns the error, empty if there was none."""
    section = libbpf.bpf_program__section_name(program).decode()
    if section in ("iter/bpf_sk_storage_map", "iter/bpf_map_elem"):
        return ""  # Attached to a map, each time it is read.
    if section.startswith("cgroup"):
        cgroup = os.open("/sys/fs/cgroup", os.O_RDONLY)
        link = libbpf.bpf_program__attach_cgroup(program, cgroup)
    else:
        link = libbpf.bpf_program__attach(program)
    return "" if link else f"attach: {os.strerror(ctypes.get_errno())}"


def check(path: str, names: list[str]) -> str:
    """Loads and attaches these programs of an object; returns the error, empty if none."""
    object_ = libbpf.bpf_object__open(path.encode())
    LOG.value = b""
    chosen = []
    for program in programs(object_):
        wanted = libbpf.bpf_program__name(program).decode() in names
        libbpf.bpf_program__set_autoload(program, wanted)
        if wanted:
            libbpf.bpf_program__set_log_buf(program, LOG, len(LOG))
            chosen.append(program)
    if libbpf.bpf_object__load(object_):
        last = LOG.value.decode().splitlines()[-LAST_LINES:]
        error = "\n".join([f"load: {os.strerror(ctypes.get_errno())}", *last])
    else:
        error = "".join(attach(program) for program in chosen)
    libbpf.bpf_object__close(object_)
    return error


def check_all(suffixes: tuple[str, ...], paths: list[str]) -> None:
    """Prints a line of JSON for every program of every object: one by one if not all are well."""
    for path in paths:
        object_ = libbpf.bpf_object__open(path.encode())
        names = [libbpf.bpf_program__name(p).decode() for p in programs(object_)]
        libbpf.bpf_object__close(object_)
        names = [name for name in names if not name.endswith(suffixes)]
        well = not check(path, names)
        for name in names:
            error = "" if well else check(path, [name])
            print(json.dumps({"object": path, "program": name, "error": error}))


def hold(path: str) -> None:
    """Attaches an object's programs on tracepoints until standard input ends."""
    object_ = libbpf.bpf_object__open(path.encode())
    chosen = []
    for program in programs(object_):
        wanted = libbpf.bpf_program__section_name(program).startswith(b"tp_btf/")
        libbpf.bpf_program__set_autoload(program, wanted)
        if wanted:
            chosen.append(program)
    if libbpf.bpf_object__load(object_):
        raise SystemExit(f"{path}: {os.strerror(ctypes.get_errno())}")
    if errors := [error for program in chosen if (error := attach(program))]:
        raise SystemExit(f"{path}: {errors}")
    print("attached", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    if sys.argv[1] == "check":
        check_all(tuple(sys.argv[2].split(",")), sys.argv[3:])
    else:
        hold(sys.argv[2])
