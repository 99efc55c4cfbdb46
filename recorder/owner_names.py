"""A cgroup's path -> the container, systemd unit and pod that it stands for.

The path is what /proc/<pid>/cgroup shows after the last colon, or the folder below the cgroup mount. How each
runtime names its cgroups, with its cgroupfs and its systemd driver:

    Docker       /docker/<id>                        /system.slice/docker-<id>.scope
    containerd   /<namespace>/<id>                   /system.slice/nerdctl-<id>.scope, .../cri-containerd-<id>.scope
    CRI-O        .../crio-<id>                       .../crio-<id>.scope
    podman       /libpod_parent/libpod-<id>          /machine.slice/libpod-<id>.scope, .../libpod-payload-<id>
    Kubernetes   /kubepods/burstable/pod<uid>/<id>   /kubepods.slice/.../kubepods-burstable-pod<uid>.slice/<scope>
    LXC, nspawn  /lxc.payload.<name>                 /machine.slice/systemd-nspawn@<name>.service
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

_ID = r"[0-9a-f]{64}"
# The name of a cgroup that holds a container: (pattern, runtime; "" when the name does not tell).
_CONTAINERS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), runtime)
    for pattern, runtime in (
        (rf"docker-({_ID})\.scope", "docker"),
        (rf"(?:.*:)?cri-containerd[-:]({_ID})(?:\.scope)?", "containerd"),
        (rf"nerdctl-({_ID})\.scope", "containerd"),
        (rf"crio-({_ID})(?:\.scope)?", "cri-o"),
        (rf"(?:.*:)?crio:({_ID})", "cri-o"),
        (rf"libpod-(?:payload-)?({_ID})(?:\.scope)?", "podman"),
        (rf"({_ID})", ""),
        (r"([0-9a-f]{32}-[0-9]{6,})", "ecs"),
        (r"lxc\.payload\.(.+)", "lxc"),
        (r"systemd-nspawn@(.+)\.service", "systemd-nspawn"),
    )
)
# The cgroup above one that is named by nothing but the container's id.
_PARENTS = {"docker": "docker", "ecs": "ecs", "libpod_parent": "podman", "buildkit": "buildkit"}
_CONTAINERD_NAMESPACES = {"default", "moby", "k8s.io", "system"}
_POD = re.compile(r"(?:.*-)?pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice|\.slice:.*)?")
_PODMAN_POD = re.compile(rf"(?:machine-|user-)?libpod_pod_({_ID})(?:\.slice)?")
_UNIT = re.compile(r".+\.(?:service|scope|socket|mount|swap)")
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")


@dataclass(frozen=True)
class CgroupNames:
    """What a cgroup's path says; None: nothing.

    `container_id` is the whole id (of LXC and systemd-nspawn the name) of the innermost container, `runtime` who runs
    it (docker, containerd, cri-o, podman, ecs, buildkit, lxc, systemd-nspawn). `unit` is the host's innermost systemd
    service or scope, as systemctl prints it (so with its escapes), or the innermost slice where there is none. `pod` is
    the uid of a Kubernetes pod or the id of a podman pod.
    """

    container_id: str | None = None
    unit: str | None = None
    pod: str | None = None
    runtime: str | None = None


@lru_cache(maxsize=4096)
def names_from_cgroup_path(path: str) -> CgroupNames:
    """The names in a cgroup's path; never raises: what is not recognised is None."""
    parts = [part for part in path.removesuffix(" (deleted)").split("/") if part not in ("", ".", "..")]
    container_id = runtime = pod = service = slice_ = None
    for index, part in enumerate(parts):
        above = parts[index - 1] if index else ""
        inside = container_id is not None
        if found := _container(part, above):
            container_id, runtime = found
        if match := _POD.fullmatch(part) or _PODMAN_POD.fullmatch(part):
            pod = match[1].replace("_", "-")
        elif above == "libpod_parent" and part == container_id and index + 1 < len(parts):
            pod = part  # podman's cgroupfs driver: /libpod_parent/<pod>/libpod-<container>
        if inside:
            continue  # a systemd inside the container has units of its own: not the host's
        name = part.removeprefix("_")  # systemd's escape for a name that the kernel keeps for itself
        if _UNIT.fullmatch(name):
            service = name
        elif name.endswith(".slice"):
            slice_ = name
    if container_id is None and len(parts) > 1 and parts[0] == "lxc":
        container_id, runtime = parts[1], "lxc"
    return CgroupNames(container_id, service or slice_, pod, runtime or None)


def _container(part: str, above: str) -> tuple[str, str] | None:
    for pattern, runtime in _CONTAINERS:
        if match := pattern.fullmatch(part):
            if not runtime:
                runtime = _PARENTS.get(above, "containerd" if above in _CONTAINERD_NAMESPACES else "")
            return _unescaped(match[1]), runtime
    return None


def _unescaped(name: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), name)
