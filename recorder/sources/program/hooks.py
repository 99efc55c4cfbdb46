"""What stands in SEC("..."): which kind of program it is, and where it is attached. The names are those of libbpf."""

from __future__ import annotations

from dataclasses import dataclass

from recorder.bpf import compiler
from recorder.sources.program.annotation import Annotation, Hook
from recorder.sources.program.source_text import SourceText

_CGROUP = {
    "cgroup_skb/ingress": compiler.CGROUP_INGRESS,
    "cgroup_skb/egress": compiler.CGROUP_EGRESS,
    "cgroup/sock_create": compiler.SOCKET_CREATE,
    "cgroup/sock_release": compiler.SOCKET_RELEASE,
    "cgroup/post_bind4": compiler.POST_BIND4,
    "cgroup/post_bind6": compiler.POST_BIND6,
    "sockops": compiler.SOCKET_OPERATIONS,
}
_PREFIXES = {
    "tp": compiler.TRACEPOINT,
    "tracepoint": compiler.TRACEPOINT,
    "raw_tp": compiler.RAW_TRACEPOINT,
    "raw_tracepoint": compiler.RAW_TRACEPOINT,
    "iter": compiler.ITERATOR,
}
# Iterators that show one network namespace, that of who reads them.
_OF_A_NAMESPACE = {"tcp", "udp", "unix", "netlink", "ipv6_route"}
KNOWN = (
    "tp/CATEGORY/NAME, raw_tp/NAME, iter/NAME, cgroup_skb/ingress, cgroup_skb/egress, cgroup/sock_create, "
    "cgroup/sock_release, cgroup/post_bind4, cgroup/post_bind6, sockops"
)


@dataclass(frozen=True)
class Attachment:
    """A hook that netrec knows. `target` is the tracepoint (`sched/sched_switch`), or what an iterator walks over."""

    kind: str
    target: str
    function: str

    @property
    def program(self) -> str:
        """The name of the function that is loaded: an iterator's says what it walks over."""
        return f"bpf_iter__{self.target}" if self.kind == compiler.ITERATOR else f"run_{self.function}"

    @property
    def each_namespace(self) -> bool:
        """Whether the iterator has to be read in every network namespace."""
        return self.kind == compiler.ITERATOR and self.target in _OF_A_NAMESPACE

    @property
    def result(self) -> int:
        """What the kernel is told: at a cgroup 1 lets pass, whatever the program's own function says."""
        return 0 if self.kind in (compiler.TRACEPOINT, compiler.RAW_TRACEPOINT, compiler.ITERATOR) else 1


def attachments(source: SourceText, annotation: Annotation) -> tuple[Attachment, ...]:
    """The program's hooks; raises `ProgramError` for one that netrec does not know."""
    found: list[Attachment] = []
    for hook in annotation.hooks:
        one = _attachment(source, hook)
        if any(one.program == other.program for other in found):
            raise source.error(hook.position, f"a second {one.program} in one program", "write one function for it")
        found.append(one)
    return tuple(found)


def _attachment(source: SourceText, hook: Hook) -> Attachment:
    if hook.section in _CGROUP:
        return Attachment(_CGROUP[hook.section], hook.section, hook.function)
    prefix, _, target = hook.section.partition("/")
    parts = target.count("/") + 1 if target else 0
    if prefix in _PREFIXES and parts == (2 if _PREFIXES[prefix] == compiler.TRACEPOINT else 1):
        return Attachment(_PREFIXES[prefix], target, hook.function)
    raise source.error(hook.position, f'SEC("{hook.section}") is not a hook of netrec', f"it knows {KNOWN}")
