"""Boots Debian's kernels under qemu's emulation, and runs a job as root in there.

No KVM, no network, no modules and no initial ramdisk: Debian's cloud kernels have NVMe and ext4
built in. The guest's disk has three namespaces: the root image (what it writes there is thrown
away), a tar file with the job, and a blank one for the tar file with its results.

With `counted=True` the guest's clock is the number of instructions it has executed (one is two
nanoseconds), so a speed measured in there does not depend on the host, nor on what else it does.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import struct
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kernob.errors import KernobError

if TYPE_CHECKING:
    from collections.abc import Mapping

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kernob" / "vm"

MIRROR = "http://deb.debian.org"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

# Kernel release: Debian's suite, and the package that depends on the newest build in there.
KERNELS = {
    "5.10": ("bullseye", "linux-image-cloud-amd64"),
    "6.1": ("bookworm", "linux-image-cloud-amd64"),
    "6.12": ("bookworm", "linux-image-6.12-cloud-amd64"),
}

ROOT_SUITE = "bookworm"
ROOT_PACKAGES = (
    *("bpftool", "iproute2", "libbpf1", "nginx-light", "procps"),
    *("postgresql-15", "postgresql-client-15", "python3", "redis-server", "redis-tools", "wrk"),
)

# Commands the host must have, and Debian's packages of them.
HOST_TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "debootstrap": "debootstrap",
    "mke2fs": "e2fsprogs",
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
}

RESULTS_BYTES = 64 << 20
ROOT_MEBIBYTES = 1024
SECTOR = 512
FIRST_SECTOR = 2048
DISK_ID = 0x6B726E62

# Finds the disks by the number that qemu gave them (the kernel's own order changes from boot to
# boot), unpacks the job and hands over to it. Short, because it is an argument of the kernel.
FIRST_STEPS = (
    "mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys; "
    "mount -t tmpfs tmpfs /run; mkdir /run/job; "
    "until [ -e /dev/disk3 ]; do for d in /sys/block/nvme*; do "
    "ln -sf ${d##*/} /dev/disk$(cat $d/nsid); done; done; "
    "tar -xf /dev/disk2 -C /run/job; exec /run/job/init"
)

INIT = """#!/bin/bash
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
export OUT=/run/out
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
mkdir -p /dev/shm "$OUT"
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
ip link set lo up
ulimit -n 65536
cd /run/job
./run
echo $? > "$OUT/status"
tar -C "$OUT" -cf /dev/disk3 .
sync
echo 1 > /proc/sys/kernel/sysrq
echo o > /proc/sysrq-trigger
sleep 60
"""


class MachineError(KernobError):
    """A virtual machine can't be made, or did not come to the end of its job."""


@dataclass(frozen=True)
class Outcome:
    """What a job left behind.

    Attributes:
        status: the exit status of its script.
        console: what the guest wrote to its console, the script's output included.
        files: what the script wrote to the directory `$OUT`, by path in there.
    """

    status: int
    console: str
    files: dict[str, bytes]


def missing_packages() -> list[str]:
    """Returns the Debian packages that must be installed before a machine can run."""
    return [package for tool, package in HOST_TOOLS.items() if not shutil.which(tool)]


def run(
    release: str,
    script: str,
    files: Mapping[str, Path],
    *,
    counted: bool = False,
    timeout: float = 600,
) -> Outcome:
    """Boots a kernel of `release`, runs `script` there, and returns what it left behind.

    Args:
        release: a key of `KERNELS`.
        script: text of an executable script; its working directory holds `files`.
        files: files and directories of the host that the guest gets copies of, by name there.
        counted: whether the guest's time is the number of instructions it executes.
        timeout: in seconds of the host, for all of it.

    Raises:
        MachineError: something is missing on the host, Debian's mirror did not answer, or the
            guest did not come to the end of the script in time.
    """
    if missing := missing_packages():
        raise MachineError("no virtual machine here", remedy=f"apt-get install {' '.join(missing)}")
    image, root = kernel_image(release), root_image()
    with tempfile.TemporaryDirectory(prefix="kernob-vm-") as directory:
        job, results = Path(directory, "job"), Path(directory, "results")
        _pack_job(job, script, files)
        with results.open("wb") as blank:
            blank.truncate(RESULTS_BYTES)
        command = _qemu_command(image, root, job, results, counted=counted)
        console = Path(directory, "console")
        with console.open("wb") as output:
            try:
                subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    timeout=timeout,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                output.write(f"\nkernob: stopped after {timeout} s\n".encode())
        text = console.read_text(errors="replace").replace("\r\n", "\n")
        return _outcome(results, text)


def kernel_image(release: str) -> Path:
    """Returns the path of Debian's newest build of a kernel, downloaded at the first call."""
    directory = CACHE / f"linux-{release}"
    if not directory.exists():
        suite, package = KERNELS[release]
        with tempfile.TemporaryDirectory(dir=_made(CACHE)) as scratch:
            name = _newest_kernel(suite, package)
            _apt(suite, "apt-get", "download", name, cwd=Path(scratch))
            (archive,) = Path(scratch).glob("*.deb")
            unpacked = Path(scratch, "unpacked")
            _check("dpkg-deb", "-x", str(archive), str(unpacked))
            shutil.rmtree(unpacked / "lib", ignore_errors=True)
            (unpacked / "boot").rename(directory)
    (image,) = directory.glob("vmlinuz-*")
    return image


def root_image() -> Path:
    """Returns the path of the root file system's image, made at the first call (needs root)."""
    contents = hashlib.sha256(" ".join((ROOT_SUITE, *ROOT_PACKAGES)).encode()).hexdigest()[:12]
    image = CACHE / f"root-{contents}.img"
    if not image.exists():
        if os.geteuid() != 0:
            raise MachineError("the guest's root image can't be made", remedy="run this as root")
        with tempfile.TemporaryDirectory(dir=_made(CACHE)) as scratch:
            root, unfinished = Path(scratch, "root"), Path(scratch, "image")
            _check(
                *("debootstrap", "--variant=minbase", f"--include={','.join(ROOT_PACKAGES)}"),
                *(ROOT_SUITE, str(root), f"{MIRROR}/debian"),
            )
            shutil.rmtree(root / "var/cache/apt")
            offset = f"offset={FIRST_SECTOR * SECTOR}"
            _check(
                *("mke2fs", "-q", "-t", "ext4", "-E", offset, "-d", str(root)),
                *(str(unfinished), f"{ROOT_MEBIBYTES}M"),
            )
            _write_partition_table(unfinished)
            unfinished.rename(image)
    return image


def _write_partition_table(image: Path) -> None:
    """Makes the file system partition 1: its id finds it, whatever number the disk gets."""
    sectors = ROOT_MEBIBYTES * (1 << 20) // SECTOR
    linux = struct.pack("<B3sB3sII", 0, b"", 0x83, b"", FIRST_SECTOR, sectors)
    with image.open("r+b") as file:
        file.seek(440)
        file.write(struct.pack("<IH16s48sH", DISK_ID, 0, linux, b"", 0xAA55))
        file.truncate((FIRST_SECTOR + sectors) * SECTOR)


def _pack_job(job: Path, script: str, files: Mapping[str, Path]) -> None:
    with tarfile.open(job, "w") as tar:
        for name, text in (("init", INIT), ("run", script)):
            member = tarfile.TarInfo(name)
            member.mode, member.size = 0o755, len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
        for name, path in files.items():
            tar.add(path, arcname=name)
    # A disk has whole sectors.
    os.truncate(job, -(-job.stat().st_size // (1 << 20)) << 20)


def _qemu_command(image: Path, root: Path, job: Path, results: Path, *, counted: bool) -> list[str]:
    command = [
        *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot"),
        *("-display", "none", "-monitor", "none", "-serial", "stdio"),
        *("-machine", "q35", "-cpu", "max", "-smp", "1", "-m", "2G"),
        *("-accel", "tcg,thread=single", "-kernel", str(image)),
        *(
            "-append",
            # A busy host may be too slow for the kernel's test of its timer.
            "console=ttyS0 quiet no_timer_check panic=-1 rootwait rw "
            f"root=PARTUUID={DISK_ID:08x}-01 rootfstype=ext4 "
            f'init=/bin/bash -- -c "{FIRST_STEPS}"',
        ),
        *("-device", "nvme,id=disk,serial=kernob"),
    ]
    drives = ((root, "snapshot=on"), (job, "readonly=on"), (results, "cache=unsafe"))
    for number, (path, option) in enumerate(drives, 1):
        command += [
            *("-drive", f"id=d{number},file={path},format=raw,if=none,{option}"),
            *("-device", f"nvme-ns,drive=d{number},bus=disk,nsid={number}"),
        ]
    if counted:
        command += ["-icount", "shift=1,sleep=off"]
    return command


def _outcome(results: Path, console: str) -> Outcome:
    with tarfile.open(results) as tar:
        files = {
            os.path.normpath(member.name): content.read()
            for member in tar
            if (content := tar.extractfile(member))
        }
    if "status" not in files:
        raise MachineError(f"the guest did not finish its job; it said:\n{console}")
    return Outcome(int(files.pop("status")), console, files)


def _newest_kernel(suite: str, package: str) -> str:
    """Returns the package's name that the meta-package `package` depends on."""
    _apt(suite, "apt-get", "update")
    text = _apt(suite, "apt-cache", "depends", "--important", package)
    return next(
        word for word in text.split() if word.startswith("linux-image-") and word != package
    )


def _apt(suite: str, command: str, *arguments: str, cwd: Path | None = None) -> str:
    """Runs an apt command on `suite`, whatever release the host itself is; returns its output."""
    home = _made(CACHE / f"apt-{suite}")
    signed = f"[arch=amd64 signed-by={KEYRING}]"
    (home / "sources.list").write_text(
        f"deb {signed} {MIRROR}/debian {suite} main\n"
        f"deb {signed} {MIRROR}/debian-security {suite}-security main\n"
    )
    options = {
        "Dir::Etc::SourceList": home / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": _made(home / "lists" / "partial").parent,
        "Dir::State::Status": "/dev/null",
        "Dir::Cache": _made(home / "cache" / "archives" / "partial").parents[1],
        "APT::Architecture": "amd64",
        "APT::Sandbox::User": "root",
    }
    settings = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    return _check(command, *settings, *arguments, cwd=cwd)


def _check(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MachineError(f"{command[0]} failed: {(done.stderr or done.stdout)[-2000:]}")
    return done.stdout


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory
