from __future__ import annotations

import json
import os
import pwd
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernob.identity.containers import Container, Containers

if TYPE_CHECKING:
    from conftest import Podman

ID = "0123456789abcdef" * 4
NOWHERE: tuple[Path, ...] = ()


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def in_docker(root: Path) -> Containers:
    return Containers(docker=[root], storage=NOWHERE, tasks=NOWHERE)


def in_storage(root: Path) -> Containers:
    return Containers(docker=NOWHERE, storage=[root], tasks=NOWHERE)


def in_containerd(root: Path) -> Containers:
    return Containers(docker=NOWHERE, storage=NOWHERE, tasks=[root])


def test_docker(tmp_path: Path) -> None:
    config = {"ID": ID, "Name": "/web", "Config": {"Image": "nginx:1.25", "Labels": None}}
    write(tmp_path / "containers" / ID / "config.v2.json", config)

    assert in_docker(tmp_path).find(ID) == Container(ID, "web", "nginx:1.25")


def test_docker_under_kubernetes(tmp_path: Path) -> None:
    labels = {"io.kubernetes.container.name": "shop"}
    config = {"Name": "/k8s_shop_pod_ns_uid_0", "Config": {"Image": "x", "Labels": labels}}
    write(tmp_path / "containers" / ID / "config.v2.json", config)

    assert in_docker(tmp_path).find(ID).name == "shop"


def test_podman_volatile(tmp_path: Path) -> None:
    stored = {"id": ID, "names": ["web"], "metadata": '{"image-name": "nginx"}', "image": "x"}
    write(tmp_path / "overlay-containers" / "containers.json", [])
    write(tmp_path / "overlay-containers" / "volatile-containers.json", [stored])

    assert in_storage(tmp_path).find(ID) == Container(ID, "web", "nginx")


def test_cri_o(tmp_path: Path) -> None:
    metadata = {"pod-name": "p", "image-name": "shop:2", "metadata-name": "shop"}
    stored = {"id": ID, "names": ["k8s_shop_p_ns_uid_0"], "metadata": json.dumps(metadata)}
    write(tmp_path / "overlay-containers" / "containers.json", [stored])

    assert in_storage(tmp_path).find(ID) == Container(ID, "shop", "shop:2")


def test_containerd_under_kubernetes(tmp_path: Path) -> None:
    annotations = {
        "io.kubernetes.cri.container-name": "shop",
        "io.kubernetes.cri.image-name": "registry/shop:2",
        "io.kubernetes.cri.sandbox-name": "shop-7d",
    }
    write(tmp_path / "k8s.io" / ID / "config.json", {"annotations": annotations, "process": {}})

    assert in_containerd(tmp_path).find(ID) == Container(ID, "shop", "registry/shop:2")


def test_nerdctl(tmp_path: Path) -> None:
    write(tmp_path / "default" / ID / "config.json", {"annotations": {"nerdctl/name": "web"}})

    assert in_containerd(tmp_path).find(ID).name == "web"


def test_rootless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = pwd.struct_passwd(("shop", "x", 4321, 4321, "", str(tmp_path), "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", {4321: user}.__getitem__)
    stored = {"id": ID, "names": ["web"]}
    write(tmp_path / ".local/share/containers/storage/overlay-containers/containers.json", [stored])
    containers = Containers(docker=NOWHERE, storage=NOWHERE, tasks=NOWHERE)
    path = f"/user.slice/user-4321.slice/user@4321.service/user.slice/libpod-{ID}.scope"

    assert containers.find(ID).name == ID[:12]
    assert containers.find(ID, path.replace("4321", "99")).name == ID[:12]
    assert containers.find(ID, path).name == "web"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"Name": 5}', "\xff", '{"Name": ""}'])
def test_files_that_say_nothing(tmp_path: Path, text: str) -> None:
    for file in (
        tmp_path / "containers" / ID / "config.v2.json",
        tmp_path / "overlay-containers" / "containers.json",
        tmp_path / "default" / ID / "config.json",
    ):
        file.parent.mkdir(parents=True)
        file.write_text(text, encoding="latin-1")

    containers = Containers(docker=[tmp_path], storage=[tmp_path], tasks=[tmp_path])

    assert containers.find(ID) == Container(ID, ID[:12], "")


def test_a_pipe_in_place_of_the_file_does_not_hang(tmp_path: Path) -> None:
    (tmp_path / "containers" / ID).mkdir(parents=True)
    os.mkfifo(tmp_path / "containers" / ID / "config.v2.json")

    assert in_docker(tmp_path).find(ID).name == ID[:12]


def test_a_name_is_found_once_it_is_there(tmp_path: Path) -> None:
    containers = in_storage(tmp_path)
    file = tmp_path / "overlay-containers" / "containers.json"
    write(file, [])
    assert containers.find(ID).name == ID[:12]

    write(file, [{"id": ID, "names": ["we\x1bb"]}])
    os.utime(file, ns=(1, 1))

    assert containers.find(ID).name == "we?b"


def test_names_of_lxc_are_names() -> None:
    assert in_docker(Path("/nonexistent")).find("web").name == "web"


@pytest.mark.server
def test_podman(podman: Podman) -> None:
    container, _ = podman.start("kernob-named", "/bin/busybox", "sleep", "60")

    found = in_storage(podman.storage).find(container)

    assert found == Container(container, "kernob-named", "localhost/kernob-test:1")
