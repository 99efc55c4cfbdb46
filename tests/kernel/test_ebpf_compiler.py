"""BTF, bcc and the compiler's process on a real kernel."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from netrec.errors import CannotRecordError
from recorder.bpf import compiler
from recorder.bpf.btf import Btf
from recorder.sources.ebpf import programs
from recorder.sources.ebpf.records import FLOW
from tests.support.namespaces import wait_until

pytestmark = pytest.mark.kernel
BIT_FIELDS = {"icsk_ca_state"}


def test_offsets_are_those_that_a_c_compiler_finds(tmp_path: Path) -> None:
    dump = ["bpftool", "btf", "dump", "file", "/sys/kernel/btf/vmlinux", "format", "c"]
    with (tmp_path / "vmlinux.h").open("w") as file:
        subprocess.run(dump, stdout=file, check=True, timeout=60)
    btf = Btf()
    symbols = sorted(set(re.findall(r"\b(?:OFFSET|SIZE|VALUE)_\w+", programs.text())))
    fields = []
    for symbol in symbols:
        if symbol.startswith("OFFSET_"):
            parts = symbol.removeprefix("OFFSET_").split("_")
            for cut in range(1, len(parts)):
                owner, field = "_".join(parts[:cut]), "_".join(parts[cut:])
                if btf.struct_type(owner) is not None and btf.offset(owner, field) is not None:
                    # The byte that a bit field begins in has no address in C: it is the one that is written to.
                    written = (
                        f"({{ struct {owner} x = {{}}; x.{field} = 1; int a = 0; while (!((char *)&x)[a]) a++; a; }})"
                    )
                    bits = field in BIT_FIELDS
                    fields.append((symbol, written if bits else f"__builtin_offsetof(struct {owner}, {field})"))
        elif symbol.startswith("SIZE_"):
            fields.append((symbol, f"sizeof(struct {symbol.removeprefix('SIZE_')})"))
        else:
            fields.append((symbol, symbol.removeprefix("VALUE_")))
    assert len(fields) > 50
    assert {symbol for symbol, _ in fields} == set(symbols)
    lines = "".join(f'    printf("{symbol} %ld\\n", (long)({text}));\n' for symbol, text in fields)
    source = '#include "vmlinux.h"\nint printf(const char *, ...);\nint main(void) {\n' + lines + "    return 0;\n}\n"
    (tmp_path / "t.c").write_text(source)
    subprocess.run(["gcc", "-w", "-o", "t", "t.c"], cwd=tmp_path, check=True, timeout=120)
    told = subprocess.run([tmp_path / "t"], capture_output=True, text=True, check=True).stdout.splitlines()
    expected = {name: int(value) for name, value in (line.split() for line in told)}
    assert {symbol: btf.resolve(symbol) for symbol in symbols} == expected


def test_an_unknown_symbol_is_none() -> None:
    btf = Btf()
    assert btf.resolve("OFFSET_tcp_sock_no_such_field") is None
    assert btf.resolve("VALUE_NO_SUCH_ENUMERATOR") is None
    assert btf.resolve("SIZE_no_such_struct") is None
    assert btf.resolve("ARGUMENTS_no_such_tracepoint") == 0
    assert btf.enumeration("no_such_enum") == {}


def test_arguments_and_names_are_those_that_bpftool_finds() -> None:
    dump = ["bpftool", "btf", "dump", "file", "/sys/kernel/btf/vmlinux", "format", "c"]
    text = subprocess.run(dump, capture_output=True, text=True, check=True, timeout=60).stdout
    btf = Btf()
    for name in ("kfree_skb", "tcp_send_reset", "inet_sock_set_state"):
        match = re.search(rf"typedef void \(\*btf_trace_{name}\)\((.*?)\);", text)
        assert match and btf.arguments(name) == match[1].count(",")
    names = re.search(r"enum skb_drop_reason \{(.*?)\}", text, re.S)
    assert names
    expected = {int(value): name for name, value in re.findall(r"(\w+) = (\d+)", names[1])}
    assert btf.enumeration("skb_drop_reason") == expected


def test_the_record_is_as_large_as_the_kernels(tmp_path: Path) -> None:
    text = programs.text()
    address = re.search(r"^struct address \{.*?\};", text, re.M)
    assert address
    words = (("u64", "long long"), ("u32", "int"), ("u16", "short"), ("u8", "char"))
    types = "".join(f"typedef unsigned {word} {name};\n" for name, word in words)
    names = [name for name in FLOW.names or () if name != "unused"]
    prints = "".join(f'printf("{name} %ld\\n", (long)__builtin_offsetof(struct flow, {name}));' for name in names)
    flow = re.search(r"^struct flow \{.*?^\};", text, re.S | re.M)
    assert flow
    (tmp_path / "t.c").write_text(
        f"{types}\n{address[0]}\n{flow[0]}\nint printf(const char *, ...);\n"
        f'int main(void) {{ printf("size %ld\\n", (long)sizeof(struct flow)); {prints} return 0; }}\n'
    )
    subprocess.run(["gcc", "-w", "-o", "t", "t.c"], cwd=tmp_path, check=True, timeout=60)
    told = subprocess.run([tmp_path / "t"], capture_output=True, text=True, check=True).stdout.splitlines()
    found = {name: int(value) for name, value in (line.split() for line in told)}
    assert found.pop("size") == FLOW.itemsize
    assert FLOW.fields is not None
    assert found == {name: FLOW.fields[name][1] for name in names}


def test_a_program_that_does_not_compile_is_one_sentence() -> None:
    build = compiler.Build(
        compiler.Request("int broken(void *ctx) { return nonsense; }", {}, {"broken": "raw_tracepoint"})
    )
    with pytest.raises(CannotRecordError, match="cannot be loaded"):
        build.finish()


def test_missing_bcc_is_one_sentence_with_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NETREC_BCC", str(tmp_path))
    with pytest.raises(CannotRecordError, match=r"bcc is not installed.*apt-get install python3-bpfcc"):
        compiler.Build(compiler.Request("", {}, {})).finish()
    done = subprocess.run(
        [sys.executable, "-m", "netrec", "record", "-o", str(tmp_path / "trace"), "--duration", "1s"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "apt-get install python3-bpfcc" in done.stderr


def test_a_user_who_is_not_root_is_told_so(tmp_path: Path) -> None:
    # As root without the capabilities that eBPF needs, which is what the kernel looks at.
    done = subprocess.run(
        [
            *("setpriv", "--bounding-set=-sys_admin,-bpf,-perfmon", "--inh-caps=-all"),
            *(sys.executable, "-m", "netrec", "record", "-o", str(tmp_path / "trace"), "--duration", "1s"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "needs root" in done.stderr


def test_the_compilers_process_dies_with_its_parent() -> None:
    script = (
        "import os, sys, time\n"
        "from recorder.bpf import compiler\n"
        "build = compiler.Build(compiler.Request('#warning x', {}, {}))\n"
        "print(build._child.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    child = int(done.stdout)

    def gone() -> bool:
        try:
            return "\nState:\tZ" in Path(f"/proc/{child}/status").read_text()
        except OSError:
            return True

    wait_until(gone, "the compiler's process is gone")
    assert done.returncode == -9
    assert os.getpid() != child
