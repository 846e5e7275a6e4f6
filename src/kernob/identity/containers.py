"""The names of containers, from the files that their engines keep: no API, no socket, no waiting.

- Docker 20.10 to 28: `<data-root>/containers/<id>/config.v2.json`;
- podman 4 and 5, CRI-O: `<graphroot>/<driver>-containers/containers.json` (containers/storage);
- containerd, and so Kubernetes and nerdctl:
  `/run/containerd/io.containerd.runtime.v2.task/<namespace>/<id>/config.json` (OCI bundle).
"""

from __future__ import annotations

import os
import pwd
import re
import stat
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from kernob.identity.procfs import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

_FILE_LENGTH: Final = 4 << 20
_SHORT: Final = 12
_CACHED: Final = 4096
_NAME_LENGTH: Final = 128
_USER = re.compile(r"/user-(\d+)\.slice/")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Container:
    """A container.

    Attributes:
        id: as the engine gave it; a name for LXC and systemd-nspawn.
        name: the engine's or, in Kubernetes, the pod specification's; else the first 12
            characters of the id.
        image: as it was asked for; "" where no file tells it.
    """

    id: str
    name: str
    image: str


class _DockerImage(msgspec.Struct):
    Image: str = ""
    Labels: dict[str, str] | None = None


class _Docker(msgspec.Struct):
    Name: str = ""
    Config: _DockerImage = msgspec.field(default_factory=_DockerImage)


class _Stored(msgspec.Struct):
    id: str
    names: list[str] = []
    metadata: str = "{}"


class _StoredMetadata(msgspec.Struct, rename="kebab"):
    image_name: str = ""
    metadata_name: str = ""


class _Bundle(msgspec.Struct):
    annotations: dict[str, str] = {}


class Containers:
    """Finds containers by id; what was found is kept, at most 4,096 of them."""

    def __init__(
        self,
        docker: Iterable[Path] | None = None,
        storage: Iterable[Path] | None = None,
        tasks: Iterable[Path] | None = None,
    ) -> None:
        """Args: the engines' directories, where they are not the usual or configured ones."""
        self._docker = tuple(docker) if docker is not None else _docker_roots()
        self._storage = tuple(storage) if storage is not None else _storage_roots()
        self._tasks = (
            tuple(tasks)
            if tasks is not None
            else tuple(
                Path(run, "io.containerd.runtime.v2.task")
                for run in ("/run/containerd", "/run/k3s/containerd")
            )
        )
        self._found: dict[str, Container] = {}
        self._stored: dict[Path, tuple[int, dict[str, _Stored]]] = {}

    def find(self, container: str, cgroup_path: str = "") -> Container:
        """Returns the container; with its short id as the name where no file names it.

        Args:
            container: its id.
            cgroup_path: that of the process: tells whose a rootless container is.
        """
        if container in self._found:
            return self._found[container]
        home = _home(cgroup_path)
        name, image = (
            self._from_docker(container, home)
            or self._from_storage(container, home)
            or self._from_containerd(container)
            or ("", "")
        )
        short = container[:_SHORT] if len(container) >= 64 else container  # noqa: PLR2004
        result = Container(
            id=container,
            name=printable(name[:_NAME_LENGTH]) or short,
            image=printable(image[:_NAME_LENGTH]),
        )
        if name:
            while len(self._found) >= _CACHED:
                del self._found[next(iter(self._found))]
            self._found[container] = result
        return result

    def _from_docker(self, container: str, home: Path | None) -> tuple[str, str] | None:
        roots = (*self._docker, home / ".local/share/docker") if home else self._docker
        for root in roots:
            file = _decode(root / "containers" / container / "config.v2.json", _Docker)
            if file:
                labels = file.Config.Labels or {}
                name = labels.get("io.kubernetes.container.name", file.Name.removeprefix("/"))
                return name, file.Config.Image
        return None

    def _from_storage(self, container: str, home: Path | None) -> tuple[str, str] | None:
        roots = (
            (*self._storage, home / ".local/share/containers/storage") if home else self._storage
        )
        for root in roots:
            for file in (
                *root.glob("*-containers/containers.json"),
                *root.glob("*-containers/volatile-containers.json"),
            ):
                stored = self._read_stored(file).get(container)
                if stored:
                    metadata = _decode_text(stored.metadata.encode(), _StoredMetadata)
                    name = (metadata and metadata.metadata_name) or "".join(stored.names[:1])
                    return name, metadata.image_name if metadata else ""
        return None

    def _read_stored(self, file: Path) -> dict[str, _Stored]:
        try:
            changed = file.stat().st_mtime_ns
        except OSError:  # just replaced, or not ours to read
            return {}
        if file not in self._stored or self._stored[file][0] != changed:
            listed = _decode(file, list[_Stored]) or []
            self._stored[file] = (changed, {stored.id: stored for stored in listed})
        return self._stored[file][1]

    def _from_containerd(self, container: str) -> tuple[str, str] | None:
        for root in self._tasks:
            for file in root.glob(f"*/{container}/config.json"):
                bundle = _decode(file, _Bundle)
                known = bundle.annotations if bundle else {}
                name = known.get("io.kubernetes.cri.container-name") or known.get("nerdctl/name")
                if name:
                    return name, known.get("io.kubernetes.cri.image-name", "")
        return None


def _home(cgroup_path: str) -> Path | None:
    match = _USER.search(cgroup_path)
    try:
        return Path(pwd.getpwuid(int(match[1])).pw_dir) if match else None
    except (KeyError, OverflowError):  # a user this host does not know
        return None


def _docker_roots() -> tuple[Path, ...]:
    settings = _decode(Path("/etc/docker/daemon.json"), dict[str, Any]) or {}
    configured = settings.get("data-root")
    return tuple(
        Path(root)
        for root in (configured, "/var/lib/docker", "/var/snap/docker/common/var-lib-docker")
        if isinstance(root, str)
    )


def _storage_roots() -> tuple[Path, ...]:
    roots = [Path("/var/lib/containers/storage")]
    try:
        settings = tomllib.loads(Path("/etc/containers/storage.conf").read_text())
        roots.insert(0, Path(settings["storage"]["graphroot"]))
    except (OSError, ValueError, KeyError, TypeError):  # not there, or says nothing: the default
        pass
    return tuple(roots)


def _decode(file: Path, kind: type[_T]) -> _T | None:
    """Returns what the file holds; None if it is none of ours: missing, unreadable, too large."""
    try:
        # Rootless engines' files are their users': no link, no pipe, no endless file.
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as opened:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        return _decode_text(opened.read(_FILE_LENGTH), kind)


def _decode_text(text: bytes, kind: type[_T]) -> _T | None:
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.DecodeError:  # half written, or of another engine: it stays without a name
        return None
