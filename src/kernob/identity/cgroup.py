"""What a cgroup's path tells: the systemd unit and the container a process runs in.

Paths as written by systemd 252 (systemd.slice(5), `systemd-cgls`), Docker 20.10 and 25, containerd,
nerdctl, CRI-O, podman 4, the kubelet (both cgroup drivers), Amazon ECS, LXC 3 to 6 and
systemd-nspawn; cgroup versions 1, 2 and both at once (cgroups(7)).
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from kernob.identity.procfs import printable

_CONTAINER = re.compile(
    r"(?!.*conmon)(?:.*[-_:.])?(?P<id>[0-9a-f]{64}|[0-9a-f]{32}-\d{8,12})(?:\.scope)?"
)
_LXC = re.compile(r"(?:^|/)lxc(?:\.payload[./]|/)(?P<id>[^/]+)")
_MACHINE = re.compile(
    r"(?:^|/)machine\.slice/(?:systemd-nspawn@(?P<service>[^/]+)\.service"
    r"|machine-(?!qemu|lxc)(?P<scope>[^/]+)\.scope)"
)
_UNIT = re.compile(r".+\.(?:service|scope|socket|mount|swap)")
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")


@dataclass(frozen=True, slots=True)
class Cgroup:
    """Where a process runs.

    Attributes:
        path: from the hierarchy's root.
        unit: the systemd unit with its type (`nginx.service`); "" if there is none, or only a
            scope, which holds what systemd did not start (a login session, a container).
        container: its id, or the name of one of LXC or systemd-nspawn; "" if there is none.
    """

    path: str
    unit: str
    container: str


NO_CGROUP = Cgroup("/", "", "")


@functools.lru_cache(maxsize=4096)
def parse_cgroups(text: str) -> Cgroup:
    """Returns the cgroup that says most.

    The path is that of version 2; where that is the root's, that of systemd's own hierarchy, of
    the pids controller, then of any other. The first of these that knows of a unit or a
    container tells it.

    Args:
        text: /proc/<pid>/cgroup, lines `id:controllers:path`.
    """
    paths = {}
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if path not in ("", "/"):
            paths[controllers] = printable(path)
    preferred = [name for name in ("", "name=systemd", "pids") if name in paths]
    found = [parse_path(paths[name]) for name in (*preferred, *paths)]
    return Cgroup(
        path=found[0].path if found else "/",
        unit=next((cgroup.unit for cgroup in found if cgroup.unit), ""),
        container=next((cgroup.container for cgroup in found if cgroup.container), ""),
    )


@functools.lru_cache(maxsize=4096)
def parse_path(path: str) -> Cgroup:
    """Returns what one path tells; a base name alone, as the kernel's record has it, will do."""
    return Cgroup(path, _unit(path), _container(path))


def _unit(path: str) -> str:
    """The innermost unit counts: app.scope under user@1000.service is not that service."""
    for component in reversed(path.split("/")):
        if _UNIT.fullmatch(component):
            # systemd writes _x where x would look like a file of the kernel's.
            return "" if component.endswith(".scope") else component.removeprefix("_")
    return ""


def _container(path: str) -> str:
    for component in reversed(path.split("/")):
        if match := _CONTAINER.fullmatch(component):
            return match["id"]
    if match := _LXC.search(path):
        return match["id"]
    if match := _MACHINE.search(path):
        return _ESCAPE.sub(lambda m: chr(int(m[1], 16)), match["service"] or match["scope"])
    return ""
