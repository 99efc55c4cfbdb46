"""Compile and load BPF programs in a child process, and take over their descriptors.

LLVM leaves about 170 MB resident in the process that compiled; the child takes that with it when it exits. The
programs and maps live as long as a descriptor is open: once the recorder is gone, however it went, so are they.
The child (`python -m recorder.bpf.compiler`) reads a request as JSON from its socket, and answers with
JSON and the descriptors (SCM_RIGHTS). It dies with its parent (PR_SET_PDEATHSIG).

What was compiled before for the same kernel is loaded from a cache, without a child (`recorder.bpf.compile_cache`).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netrec.errors import CannotRecordError, NetrecError
from recorder.bpf import compile_cache, objects
from recorder.bpf.compiled import Compiled, take_out

if TYPE_CHECKING:
    from recorder.bpf.btf import Btf

RAW_TRACEPOINT = "raw_tracepoint"
TYPED_TRACEPOINT = "typed_tracepoint"
TRACEPOINT = "tracepoint"
ITERATOR = "iterator"
CGROUP_INGRESS = "cgroup_ingress"
CGROUP_EGRESS = "cgroup_egress"
SOCKET_CREATE = "socket_create"
SOCKET_RELEASE = "socket_release"
CONNECT4 = "connect4"
CONNECT6 = "connect6"
POST_BIND4 = "post_bind4"
POST_BIND6 = "post_bind6"
SOCKET_OPERATIONS = "socket_operations"
# (enum bpf_prog_type, enum bpf_attach_type or none), which loading wants to know.
_KINDS: dict[str, tuple[Any, ...]] = {
    RAW_TRACEPOINT: (17,),
    TYPED_TRACEPOINT: (26, None, 23),
    ITERATOR: (26,),
    CGROUP_INGRESS: (8, None, 0),
    CGROUP_EGRESS: (8, None, 1),
    SOCKET_CREATE: (9, None, 2),
    SOCKET_RELEASE: (9, None, 34),
    CONNECT4: (18, None, 10),
    CONNECT6: (18, None, 11),
    TRACEPOINT: (5,),
    POST_BIND4: (9, None, 12),
    POST_BIND6: (9, None, 13),
    SOCKET_OPERATIONS: (13, None, 3),
}
_ATTACH_ITERATOR = 28  # BPF_TRACE_ITER
_SYMBOL = re.compile(r"\b((?:OFFSET|SIZE|VALUE|ARGUMENTS)_[A-Za-z0-9_]+)\b")
_LINE = re.compile(r"^; .*@ [^:\n]+:\d+$", re.MULTILINE)
_DESCRIPTORS_A_MESSAGE = 200


@dataclass(frozen=True)
class Request:
    """What to build: `text` in C, `defines` name -> number, `functions` name -> kind, `maps` names.

    `enumerations` are the kernel's enums whose names are wanted beside. With `kernel_types` the structs that the text
    names are declared before it (`recorder.bpf.kernel_types`).
    """

    text: str
    defines: dict[str, int]
    functions: dict[str, str]
    maps: list[str] = field(default_factory=list)
    enumerations: list[str] = field(default_factory=list)
    kernel_types: bool = False


class BuildError(CannotRecordError):
    """The programs do not compile or are not loaded: `output` is what the compiler or the verifier said."""

    output = ""


@dataclass
class Loaded:
    """Open descriptors of the loaded programs and maps, by name. `close` closes all of them.

    `enumerations` holds value -> name of every enum that was asked for (empty where the kernel has none).
    """

    functions: dict[str, int]
    maps: dict[str, int]
    enumerations: dict[str, dict[int, str]] = field(default_factory=dict)

    def close(self) -> None:
        for descriptor in (*self.functions.values(), *self.maps.values()):
            os.close(descriptor)
        self.functions, self.maps = {}, {}


def typed_tracepoint(tracepoint: str) -> str:
    """The kind of a program of this raw tracepoint whose arguments the verifier knows the types of, so that it may load
    from what they point to. The program is made for this tracepoint: attach it without a name."""
    return f"{TYPED_TRACEPOINT}:{tracepoint}"


def attach_type(kind: str) -> int:
    """The kernel's enum bpf_attach_type for a kind of program at a cgroup."""
    return int(_KINDS[kind][2])


class Build:
    """A compile under way: start it early, do something else, then `finish`."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._child: subprocess.Popen[bytes] | None = None
        # A user's own programs are compiled each time: what the verifier says of them names their lines.
        self._place = None if request.kernel_types else compile_cache.place(request)
        self._kept = compile_cache.find(self._place) if self._place else None
        if self._kept is None:
            self._compile()

    def _compile(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
            self._child = subprocess.Popen(
                [sys.executable, "-S", "-m", "recorder.bpf.compiler", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                env={**os.environ, "PYTHONPATH": _python_path()},
            )
        self._socket = ours
        ours.sendall(json.dumps(asdict(self._request)).encode() + b"\n")

    def finish(self, timeout: float = 60.0) -> Loaded:
        """Load what is kept or wait for the child; raises `BuildError` with the compiler's or the verifier's reason."""
        if self._kept is not None:
            kinds = {name: _load_arguments(kind) for name, kind in self._request.functions.items()}
            try:
                return Loaded(*self._kept.load(kinds, self._request.maps), self._kept.enumerations)
            except (OSError, LookupError):
                self._kept = None
                self._compile()
        assert self._child is not None
        self._socket.settimeout(timeout)
        data, descriptors = b"", []
        try:
            while not data.endswith(b"\n"):
                part, received, _, _ = socket.recv_fds(self._socket, 1 << 16, _DESCRIPTORS_A_MESSAGE)
                descriptors += received
                if not part:
                    break
                data += part
        except OSError as problem:
            self.cancel()
            raise CannotRecordError(f"compiling the eBPF programs did not end ({problem})", "try again") from None
        self._child.wait()
        answer: dict[str, Any] = json.loads(data) if data else {"error": self._last_words(), "hint": ""}
        self._socket.close()
        if "error" in answer:
            error = BuildError(answer["error"], answer["hint"])
            error.output = self._said()
            raise error
        if self._place and answer.get("compiled"):
            compile_cache.keep(self._place, Compiled.from_json(answer["compiled"]))
        names = [*self._request.functions, *self._request.maps]
        named = dict(zip(names, descriptors, strict=True))
        return Loaded(
            {name: named[name] for name in self._request.functions},
            {name: named[name] for name in self._request.maps},
            {
                name: {int(value): text for value, text in members.items()}
                for name, members in answer.get("enumerations", {}).items()
            },
        )

    def cancel(self) -> None:
        """End the child; safe at any time."""
        if self._child is None:
            return
        if self._child.poll() is None:
            self._child.kill()
            self._child.wait()
        self._socket.close()

    def _said(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")

    def _last_words(self) -> str:
        lines = self._said().strip().splitlines()
        assert self._child is not None
        return f"the eBPF compiler ended with status {self._child.returncode}: {lines[-1] if lines else 'no message'}"


def _python_path() -> str:
    """The folders that netrec and recorder are imported from, for the child."""
    own = str(Path(__file__).resolve().parents[2])
    given = os.environ.get("PYTHONPATH")
    return f"{own}{os.pathsep}{given}" if given else own


def _defines(btf: Btf, text: str, given: dict[str, int]) -> dict[str, int]:
    values = dict(given)
    for symbol in sorted(set(_SYMBOL.findall(text)) - given.keys()):
        value = btf.resolve(symbol)
        if value is None:
            raise CannotRecordError(f"this kernel's BTF does not have {symbol}", "report this kernel's version")
        values[symbol] = value
    return values


def _load_arguments(kind: str) -> tuple[int, int]:
    """(enum bpf_prog_type, enum bpf_attach_type) of a kind of program."""
    kind = kind.partition(":")[0]
    if kind == ITERATOR:
        return _KINDS[kind][0], _ATTACH_ITERATOR
    return _KINDS[kind][0], attach_type(kind) if len(_KINDS[kind]) > 2 else 0


def _compile(request: Request) -> tuple[list[int], dict[str, dict[int, str]], Compiled | None]:
    """Descriptors of the functions and maps, the enumerations, and what can be loaded again without compiling."""
    from recorder.bpf.bcc_loader import load_bcc
    from recorder.bpf.btf import Btf
    from recorder.bpf.headers import write_stub_headers
    from recorder.bpf.kernel_types import declarations

    with tempfile.TemporaryDirectory(prefix="netrec-") as folder:
        write_stub_headers(Path(folder))
        os.environ["BCC_KERNEL_SOURCE"] = folder
        bcc = load_bcc()
        btf = Btf()
        flags = ["-w", "-fno-color-diagnostics"]
        flags += [f"-D{name}={value}" for name, value in _defines(btf, request.text, request.defines).items()]
        text = (declarations(btf, request.text) if request.kernel_types else "") + request.text
        try:
            program = bcc.BPF(text=text, cflags=flags)
            functions = []
            for name, kind in request.functions.items():
                try:
                    if kind.startswith(TYPED_TRACEPOINT):
                        functions.append(_load_typed(bcc, btf, program, name, kind))
                    else:
                        functions.append(_load(program, name, kind))
                except Exception:
                    if request.kernel_types:
                        _name_lines(bcc, program, name, kind)
                    raise
        except Exception as problem:
            raise CannotRecordError(f"the eBPF programs cannot be loaded ({problem})", _why_not_loaded()) from None
        maps = [program[name].map_fd for name in request.maps]
        enumerations = {name: btf.enumeration(name) for name in request.enumerations}
        compiled = None if request.kernel_types else _taken_out(bcc, program, request, functions, maps)
        if compiled:
            compiled.enumerations = enumerations
        # Duplicates survive the garbage collection of `program`.
        return [*functions, *(os.dup(descriptor) for descriptor in maps)], enumerations, compiled


def _taken_out(bcc: Any, program: Any, request: Request, functions: list[int], maps: list[int]) -> Compiled | None:
    """The instructions out of bcc's module, where the descriptors of the maps are in their places by now."""
    found = {}
    for name, descriptor in zip(request.functions, functions, strict=True):
        found[name] = (_code(bcc, program, name), descriptor)
    return take_out(found, maps)


def _code(bcc: Any, program: Any, name: str) -> bytes:
    """The instructions of a function, 8 bytes each."""
    start = bcc.lib.bpf_function_start(program.module, name.encode())
    return ctypes.string_at(start, bcc.lib.bpf_function_size(program.module, name.encode()))


def _load_typed(bcc: Any, btf: Btf, program: Any, name: str, kind: str) -> int:
    """Load a program of a typed tracepoint, which bcc does not know."""
    tracepoint = kind.partition(":")[2]
    target = btf.tracepoint(tracepoint)
    if target is None:
        raise CannotRecordError(f"this kernel has no tracepoint {tracepoint}", "report this kernel's version")
    return objects.load_program(name, *_load_arguments(kind), target, _code(bcc, program, name))


def _load(program: Any, name: str, kind: str) -> int:
    return os.dup(program.load_func(name, *_KINDS[kind]).fd)


def _name_lines(bcc: Any, program: Any, name: str, kind: str) -> None:
    """Where a refusal came without the lines of the source, let the verifier say it again with them, on standard error.

    When the kernel answers EINVAL, bcc takes it for an old one, and tries without line information; that log is what it
    prints. A log that does not fit ends in another error, and holds the last part since Linux 6.4: with lines it is
    longer than the one without. bcc prints it.
    """
    said = os.pread(2, 1 << 26, 0).decode(errors="replace")
    if _LINE.search(said) or "\nprocessed " not in said:
        return
    log = said.partition("\n")[2].partition("\nHINT")[0].strip()
    program_type, _, attach_type = (*_KINDS[kind], None, -1)[:3] if len(_KINDS[kind]) < 3 else _KINDS[kind]
    buffer, module, function = ctypes.create_string_buffer(len(log)), program.module, name.encode()
    with contextlib.suppress(ctypes.ArgumentError, TypeError):  # another bcc
        bcc.lib.bcc_func_load(
            module,
            program_type,
            function,
            bcc.lib.bpf_function_start(module, function),
            bcc.lib.bpf_function_size(module, function),
            bcc.lib.bpf_module_license(module),
            bcc.lib.bpf_module_kern_version(module),
            1,
            buffer,
            len(buffer),
            None,
            attach_type,
        )


def _why_not_loaded() -> str:
    if os.geteuid() != 0:
        return "run as root"
    return "run again with --debug, and see netrec doctor"


def main(descriptor: int) -> None:
    """The child's side: one request, one answer."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    with socket.socket(fileno=descriptor) as channel:
        with channel.makefile("rb") as reader:
            request = Request(**json.loads(reader.readline()))
        try:
            descriptors, enumerations, compiled = _compile(request)
            # One byte carries the descriptors: a long text could be cut in parts.
            socket.send_fds(channel, [b" "], descriptors)
            answer = {"enumerations": enumerations, "compiled": compiled and compiled.as_json()}
            channel.sendall(json.dumps(answer).encode() + b"\n")
        except NetrecError as error:
            channel.sendall(json.dumps({"error": error.message, "hint": error.hint}).encode() + b"\n")
    # LLVM's exit handlers take longer than all of the above.
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
