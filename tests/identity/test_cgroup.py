"""Paths as the runtimes write them; those of podman and systemd are tested live, too."""

import pytest

from kernob.identity.cgroup import parse_cgroups, parse_path

ID = "0123456789abcdef" * 4
POD = "pod8f1b6a0c_5d5a_4b1e_9f0e_2f6f0c1f3d11"


@pytest.mark.parametrize(
    ("path", "unit", "container"),
    [
        ("/", "", ""),
        ("/system.slice/nginx.service", "nginx.service", ""),
        ("/system.slice/foo.service/sub/worker", "foo.service", ""),
        (
            "/system.slice/system-postgresql.slice/postgresql@15-main.service",
            "postgresql@15-main.service",
            "",
        ),
        ("/system.slice/_cpu.service", "cpu.service", ""),
        ("/system.slice/docker.service", "docker.service", ""),
        ("/user.slice/user-1000.slice/session-3.scope", "", ""),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/shop.service",
            "shop.service",
            "",
        ),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/app-firefox-1.scope", "", ""),
        ("/user.slice/user-1000.slice/user@1000.service/init.scope", "", ""),
        ("/init.scope", "", ""),
        # Docker: systemd and cgroupfs drivers, its own systemd inside, rootless.
        (f"/system.slice/docker-{ID}.scope", "", ID),
        (f"/docker/{ID}", "", ID),
        (f"/docker/{ID}/system.slice/nginx.service", "nginx.service", ID),
        (f"/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{ID}.scope", "", ID),
        # podman: systemd and cgroupfs managers, a unit made by Quadlet, its monitor.
        (f"/machine.slice/libpod-{ID}.scope/container", "", ID),
        (f"/machine.slice/libpod-{ID}.scope", "", ID),
        (f"/libpod_parent/libpod-{ID}", "", ID),
        (f"/system.slice/shop.service/libpod-payload-{ID}", "shop.service", ID),
        (f"/machine.slice/libpod-conmon-{ID}.scope", "", ""),
        (f"/libpod_parent/conmon-{ID}", "", ""),
        # Kubernetes: containerd and CRI-O, systemd and cgroupfs drivers.
        (
            f"/kubepods.slice/kubepods-burstable-{POD}.slice/cri-containerd-{ID}.scope",
            "",
            ID,
        ),
        (f"/kubepods.slice/kubepods-{POD}.slice/crio-{ID}.scope", "", ID),
        (f"/kubepods.slice/kubepods-{POD}.slice/crio-conmon-{ID}.scope", "", ""),
        (f"/kubepods/besteffort/{POD}/{ID}", "", ID),
        (f"/kubepods/burstable/{POD}/crio-{ID}", "", ID),
        (
            f"/system.slice/containerd.service/kubepods-burstable-{POD}.slice:cri-containerd:{ID}",
            "containerd.service",
            ID,
        ),
        (f"/kubepods.slice/kubepods-{POD}.slice", "", ""),
        # A node in a container (kind): the inner one is it.
        (
            f"/docker/{'f' * 64}/kubelet.slice/kubelet-kubepods.slice/cri-containerd-{ID}.scope",
            "",
            ID,
        ),
        # nerdctl, Amazon ECS on EC2 and Fargate.
        (f"/default/{ID}", "", ID),
        (f"/system.slice/nerdctl-{ID}.scope", "", ID),
        (f"/ecs/{'a' * 32}/{ID}", "", ID),
        (f"/ecs/{'a' * 32}/{'a' * 32}-1234567890", "", f"{'a' * 32}-1234567890"),
        # LXC 4 and later, before, with systemd inside; its monitor.
        ("/lxc.payload.web/system.slice/nginx.service", "nginx.service", "web"),
        ("/lxc.payload/web", "", "web"),
        ("/lxc/web/init.scope", "", "web"),
        ("/lxc.monitor.web", "", ""),
        ("/system.slice/lxc.service", "lxc.service", ""),
        # systemd-nspawn as a service and by hand; libvirt's machines are none.
        ("/machine.slice/systemd-nspawn@web.service/payload", "systemd-nspawn@web.service", "web"),
        (
            "/machine.slice/machine-web\\x2d1.scope/payload/system.slice/x.service",
            "x.service",
            "web-1",
        ),
        ("/machine.slice/machine-qemu\\x2d1\\x2dweb.scope", "", ""),
        # What the kernel's record has of a path: its last part.
        (f"libpod-{ID}.scope", "", ID),
        ("nginx.service", "nginx.service", ""),
    ],
)
def test_parse_path(path: str, unit: str, container: str) -> None:
    cgroup = parse_path(path)

    assert (cgroup.unit, cgroup.container) == (unit, container)


def test_version_2() -> None:
    cgroup = parse_cgroups("0::/system.slice/nginx.service\n")

    assert (cgroup.path, cgroup.unit) == ("/system.slice/nginx.service", "nginx.service")


def test_version_1() -> None:
    cgroup = parse_cgroups(
        "11:cpu,cpuacct:/system.slice\n10:pids:/system.slice/nginx.service\n"
        "1:name=systemd:/system.slice/nginx.service\n"
    )

    assert (cgroup.path, cgroup.unit) == ("/system.slice/nginx.service", "nginx.service")


def test_both_versions_the_one_that_knows_tells() -> None:
    cgroup = parse_cgroups(
        f"9:name=systemd:/system.slice/x.service\n4:memory:/docker/{ID}\n0::/a:b\n"
    )

    assert (cgroup.path, cgroup.unit, cgroup.container) == ("/a:b", "x.service", ID)


@pytest.mark.parametrize("text", ["", "0::/\n", "nonsense", "0:\n::\n"])
def test_nothing_known(text: str) -> None:
    assert parse_cgroups(text).path == "/"
