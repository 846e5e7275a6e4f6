"""What this kernel and these privileges allow, found by trying, never by version."""

from __future__ import annotations

import ctypes
import errno
import os
from dataclasses import dataclass
from pathlib import Path

from kernob.errors import KernelError
from kernob.kernel import capabilities, libbpf

_RAW_TRACEPOINT = 17  # BPF_PROG_TYPE_RAW_TRACEPOINT
_FENTRY = 24  # BPF_TRACE_FENTRY
# Instructions (struct bpf_insn): r0 = 0; *(u64 *)(r10 - 8) = r0; r0 = xchg(r10 - 8, r0); exit.
_R0_IS_0 = 0xB7
_STORE_R0 = 0xFFF8_0A7B
_EXCHANGE_R0 = 0xE1_FFF8_0ADB
_EXIT = 0x95
# BPF_PROG_TYPE_TRACING, STRUCT_OPS, EXT and LSM: libbpf guesses wrongly on later kernels.
_NEED_TARGET = frozenset({26, 27, 28, 29})


@dataclass(frozen=True, slots=True)
class Features:
    """What was found.

    Attributes:
        release: of the kernel, for information only.
        refusal: why no program can be loaded, in words and with the errno; empty if one can.
        btf: whether the kernel describes its types, which CO-RE, tp_btf and iterators need.
        lockdown: `none`, `integrity`, `confidentiality`, or empty where the kernel has none.
    """

    release: str
    refusal: str
    btf: bool
    lockdown: str


def probe() -> Features:
    """Returns what this process may do on this kernel.

    Raises:
        KernelError: libbpf is not installed.
    """
    return Features(
        release=os.uname().release,
        refusal=refusal(),
        btf=Path("/sys/kernel/btf/vmlinux").exists(),
        lockdown=_lockdown(),
    )


def refusal() -> str:
    """Returns why Kernob's programs can't be loaded, empty if they can: two small ones are tried.

    Raises:
        KernelError: libbpf is not installed.
    """
    error = _try(_R0_IS_0, _EXIT)
    if error:
        return _explain(error)
    if _try(_R0_IS_0, _STORE_R0, _EXCHANGE_R0, _EXIT):
        return "this kernel is older than Linux 5.12: BPF has no atomic exchange"
    return ""


def _try(*instructions: int) -> int:
    """Returns the errno of loading this program, 0 if it loads."""
    program = (ctypes.c_uint64 * len(instructions))(*instructions)
    fd = libbpf.library().bpf_prog_load(
        _RAW_TRACEPOINT, b"kernob_probe", b"GPL", program, len(program), None
    )
    if fd < 0:
        return int(-fd)
    os.close(fd)
    return 0


def has_program_type(number: int) -> bool:
    """Returns whether programs of this type (enum bpf_prog_type) can be loaded.

    Raises:
        KernelError: it can't be tried: there is no such type, or its programs must name what
            they hang on (tp_btf, fentry, iterators, lsm), so that only loading one can tell.
    """
    if number in _NEED_TARGET:
        raise KernelError(f"program type {number} can't be tried by itself: load a program")
    return bool(
        libbpf.check(
            libbpf.library().libbpf_probe_bpf_prog_type(number, None),
            f"can't try program type {number}",
        )
    )


def has_helper(program_type: int, helper: int) -> bool:
    """Returns whether programs of the type can call the helper (enum bpf_func_id).

    Raises:
        KernelError: it can't be tried: libbpf can't make a small program of this type.
    """
    return bool(
        libbpf.check(
            libbpf.library().libbpf_probe_bpf_helper(program_type, helper, None),
            f"can't try helper {helper} with program type {program_type}",
        )
    )


def has_kernel_function(name: str) -> bool:
    """Returns whether the kernel has this function, so that fentry and fexit could attach to it.

    False on a kernel without BTF, too. Whether such programs are allowed is another question.

    Raises:
        KernelError: libbpf is not installed.
    """
    return bool(libbpf.library().libbpf_find_vmlinux_btf_id(name.encode(), _FENTRY) > 0)


def missing_capabilities() -> list[str]:
    """Returns which of CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN this process lacks.

    CAP_SYS_ADMIN stands for the first two, as in the kernel (capabilities(7)).

    Raises:
        KernelError: the kernel does not tell.
    """
    held = capabilities.held()
    if "CAP_SYS_ADMIN" in held:
        held |= {"CAP_BPF", "CAP_PERFMON"}
    return [name for name in ("CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN") if name not in held]


def _explain(code: int) -> str:
    said = libbpf.describe(code)
    if code == errno.ENOSYS:
        return f"this kernel has no BPF: {said}"
    if code in (errno.EPERM, errno.EACCES):
        missing = missing_capabilities()
        if missing:
            return f"this process lacks {', '.join(missing)}: {said}"
        return f"a seccomp filter, a container or the kernel's lockdown forbids BPF: {said}"
    return f"the kernel refuses the smallest program: {said}"


def _lockdown() -> str:
    path = Path("/sys/kernel/security/lockdown")
    try:
        text = path.read_text(encoding="ascii")
    except OSError:
        # No lockdown in this kernel, or securityfs is not mounted: either way nobody can tell.
        return ""
    return text.partition("[")[2].partition("]")[0]
