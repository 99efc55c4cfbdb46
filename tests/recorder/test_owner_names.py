from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.owner_names import CgroupNames, names_from_cgroup_path

A = "3f4e8c5d2b1a09f8e7d6c5b4a3928170" + "f" * 32
B = "b" * 64
POD = "d1a2b3c4-0a1b-4c2d-8e3f-0123456789ab"
POD_ = POD.replace("-", "_")
STATIC_POD = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
USER = "/user.slice/user-1000.slice"
BURSTABLE = f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{POD_}.slice"

CASES = {
    "/": (None, None, None, None),
    "": (None, None, None, None),
    # systemd
    "/init.scope": (None, "init.scope", None, None),
    "/system.slice": (None, "system.slice", None, None),
    "/system.slice/nginx.service": (None, "nginx.service", None, None),
    "/system.slice/nginx.service (deleted)": (None, "nginx.service", None, None),
    "/system.slice/postgresql.service/workers": (None, "postgresql.service", None, None),
    "/system.slice/system-getty.slice/getty@tty1.service": (None, "getty@tty1.service", None, None),
    r"/system.slice/system-postgresql.slice/postgresql@15\x2dmain.service": (
        None, r"postgresql@15\x2dmain.service", None, None,
    ),
    r"/system.slice/dev-mapper-vg\x2dswap.swap": (None, r"dev-mapper-vg\x2dswap.swap", None, None),
    "/system.slice/_cpu.service": (None, "cpu.service", None, None),
    "/system.slice/ssh.socket": (None, "ssh.socket", None, None),
    f"{USER}/session-3.scope": (None, "session-3.scope", None, None),
    f"{USER}/user@1000.service/init.scope": (None, "init.scope", None, None),
    f"{USER}/user@1000.service/app.slice/dbus.service": (None, "dbus.service", None, None),
    rf"{USER}/user@1000.service/app.slice/app-gnome\x2dterminal-4242.scope": (
        None, r"app-gnome\x2dterminal-4242.scope", None, None,
    ),
    "/../../system.slice/cron.service": (None, "cron.service", None, None),
    "/background/batch": (None, None, None, None),
    # Docker
    f"/docker/{A}": (A, None, None, "docker"),
    f"/docker/{A}/init": (A, None, None, "docker"),
    f"/docker/buildkit/{A}": (A, None, None, "buildkit"),
    f"/docker/{A}/docker/{B}": (B, None, None, "docker"),
    f"/system.slice/docker-{A}.scope": (A, f"docker-{A}.scope", None, "docker"),
    f"/system.slice/docker-{A}.scope/system.slice/nginx.service": (A, f"docker-{A}.scope", None, "docker"),
    f"{USER}/user@1000.service/user.slice/docker-{A}.scope": (A, f"docker-{A}.scope", None, "docker"),
    "/system.slice/docker.service": (None, "docker.service", None, None),
    f"/batch/{A}": (A, None, None, None),
    # Kubernetes
    f"/kubepods/burstable/pod{POD}/{A}": (A, None, POD, None),
    f"/kubepods/pod{POD}/{A}": (A, None, POD, None),
    f"/kubepods/besteffort/pod{POD}": (None, None, POD, None),
    f"/kubepods/burstable/pod{STATIC_POD}/{A}": (A, None, STATIC_POD, None),
    f"/kubepods/burstable/pod{POD}/crio-{A}": (A, None, POD, "cri-o"),
    f"{BURSTABLE}/cri-containerd-{A}.scope": (A, f"cri-containerd-{A}.scope", POD, "containerd"),
    f"{BURSTABLE}/docker-{A}.scope": (A, f"docker-{A}.scope", POD, "docker"),
    f"{BURSTABLE}/crio-{A}.scope": (A, f"crio-{A}.scope", POD, "cri-o"),
    f"{BURSTABLE}/crio-{A}.scope/container": (A, f"crio-{A}.scope", POD, "cri-o"),
    f"{BURSTABLE}/crio-conmon-{A}.scope": (None, f"crio-conmon-{A}.scope", POD, None),
    f"/kubepods.slice/kubepods-pod{POD_}.slice/cri-containerd-{A}.scope": (
        A, f"cri-containerd-{A}.scope", POD, "containerd",
    ),
    f"/kubepods.slice/kubepods-pod{STATIC_POD}.slice/crio-{A}.scope": (A, f"crio-{A}.scope", STATIC_POD, "cri-o"),
    f"/system.slice/containerd.service/kubepods-burstable-pod{POD_}.slice:cri-containerd:{A}": (
        A, "containerd.service", POD, "containerd",
    ),
    f"/docker/{B}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{POD_}.slice/cri-containerd-{A}.scope": (
        A, None, POD, "containerd",
    ),
    f"/docker/{B}/kubelet/kubepods/besteffort/pod{POD}/{A}": (A, None, POD, None),
    # containerd alone
    f"/default/{A}": (A, None, None, "containerd"),
    f"/k8s.io/{A}": (A, None, None, "containerd"),
    f"/system.slice/nerdctl-{A}.scope": (A, f"nerdctl-{A}.scope", None, "containerd"),
    # podman
    f"/machine.slice/libpod-{A}.scope": (A, f"libpod-{A}.scope", None, "podman"),
    f"/machine.slice/libpod-{A}.scope/container": (A, f"libpod-{A}.scope", None, "podman"),
    f"/machine.slice/libpod-conmon-{A}.scope": (None, f"libpod-conmon-{A}.scope", None, None),
    f"/machine.slice/machine-libpod_pod_{B}.slice/libpod-{A}.scope": (A, f"libpod-{A}.scope", B, "podman"),
    f"/libpod_parent/libpod-{A}": (A, None, None, "podman"),
    f"/libpod_parent/{B}/libpod-{A}": (A, None, B, "podman"),
    f"/system.slice/web.service/libpod-payload-{A}": (A, "web.service", None, "podman"),
    f"{USER}/user@1000.service/user.slice/libpod-{A}.scope/container": (A, f"libpod-{A}.scope", None, "podman"),
    f"{USER}/user@1000.service/user.slice/user-libpod_pod_{B}.slice/libpod-{A}.scope": (
        A, f"libpod-{A}.scope", B, "podman",
    ),
    # others
    "/ecs/0123456789abcdef0123456789abcdef/0123456789abcdef0123456789abcdef-2531612879": (
        "0123456789abcdef0123456789abcdef-2531612879", None, None, "ecs",
    ),
    f"/ecs/0123456789abcdef0123456789abcdef/{A}": (A, None, None, None),
    "/lxc/web1": ("web1", None, None, "lxc"),
    "/lxc.payload.web1/system.slice/nginx.service": ("web1", None, None, "lxc"),
    r"/machine.slice/systemd-nspawn@build\x2d1.service/payload": (
        "build-1", r"systemd-nspawn@build\x2d1.service", None, "systemd-nspawn",
    ),
    r"/machine.slice/machine-qemu\x2d1\x2dvm.scope": (None, r"machine-qemu\x2d1\x2dvm.scope", None, None),
}  # fmt: skip


@pytest.mark.parametrize("path", CASES)
def test_real_world_paths(path: str) -> None:
    container_id, unit, pod, runtime = CASES[path]
    assert names_from_cgroup_path(path) == CgroupNames(container_id, unit, pod, runtime)


@given(
    st.lists(st.sampled_from([*"/.-_\\x2daf09:@ é\n", "docker-", ".scope", "pod", A, ".slice", "libpod_parent", "lxc"]))
)
def test_any_path_is_answered(parts: list[str]) -> None:
    assert isinstance(names_from_cgroup_path("".join(parts)), CgroupNames)
