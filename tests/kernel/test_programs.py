"""Users' own eBPF programs on a real kernel: loaded, fed by traffic whose answer is known, and refused when broken."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from netrec.cli import main
from netrec.errors import CannotRecordError, ProgramError
from tests.support import traffic
from tests.support.namespaces import ROOT, Link, Namespace, Network
from tests.support.programs import ProgramRun

pytestmark = pytest.mark.kernel


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.bpf.c"
    path.write_text(text)
    return path


def row_of(fields: str, hook: str, body: str, extra: str = "") -> str:
    return f"""// For a test.
// @table test_rows: One row.
struct row {{
    kernel_time time;  // when
{fields}
}};
{extra}
{hook}
{{
    struct row row = {{.time = bpf_ktime_get_boot_ns()}};
{body}
    return 0;
}}
"""


def counter(space: Namespace, *names: str) -> int:
    """The sum of extended TCP counters of a namespace."""
    lines = [line.split() for line in space.run("cat", "/proc/net/netstat").stdout.splitlines()]
    keys, values = (line for line in lines if line[0] == "TcpExt:")
    found = dict(zip(keys[1:], map(int, values[1:]), strict=True))
    return sum(found[name] for name in names)


def test_accept_latency_is_what_the_server_took(network: Network) -> None:
    space = network.namespace("server")
    with ProgramRun("accept_latency") as run, space.entered(), socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        port = listener.getsockname()[1]
        clients, bounds = [], {}
        for _ in range(3):
            before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            clients.append(socket.create_connection(("127.0.0.1", port)))
            bounds[clients[-1].getsockname()[1]] = (before, time.clock_gettime_ns(time.CLOCK_BOOTTIME))
        threading.Event().wait(0.3)  # how long the server is busy elsewhere
        least, most = {}, {}
        for _ in clients:
            begun = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            accepted, (_, client_port) = listener.accept()
            least[client_port] = begun - bounds[client_port][1]
            most[client_port] = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - bounds[client_port][0]
            accepted.close()
        for client in clients:
            client.close()
    rows = [row for row in run.rows if row["netns"] == space.inode]
    assert {row["client_port"] for row in rows} == set(bounds) and len(rows) == 3
    for row in rows:
        assert 300_000_000 <= least[row["client_port"]] <= row["delay_ns"] <= most[row["client_port"]]
        assert (row["client_address"], row["server_address"], row["server_port"]) == ("127.0.0.1", "127.0.0.1", port)
        assert (row["process_pid"], row["source"], row["host"]) == (os.getpid(), "program", "observer")
        assert abs(row["time"].timestamp() - time.time()) < 60
    assert run.health.events_lost == 0


def test_window_collapses_are_as_many_as_the_kernel_counts(link: Link) -> None:
    sender, receiver = link.first.namespace, link.second.namespace
    sender.sysctl(net__ipv4__tcp_congestion_control="reno")
    receiver.run("nft", "add table inet t; add chain inet t c { type filter hook input priority 0; }")
    receiver.run("nft", "add rule inet t c tcp dport 7000 numgen inc mod 20 10 counter drop")
    with receiver.entered():
        service = traffic.Server(link.second.ipv4, 7000)
    with ProgramRun("window_collapses") as run, service, sender.entered():
        traffic.exchange(link.second.ipv4, 7000, [(2_000_000, 1000)] * 4)
    rows = [row for row in run.rows if row["netns"] == sender.inode]
    assert max(row["rtt_us"] for row in rows) > 0
    recoveries = [row for row in rows if row["reason"] == "TCP_CA_Recovery"]
    assert len(recoveries) == counter(sender, "TCPSackRecovery", "TCPRenoRecovery") > 0
    for row in rows:
        assert (row["local_address"], row["remote_address"]) == (link.first.ipv4, link.second.ipv4)
        assert row["remote_port"] == 7000 and row["state_before"] != row["reason"]
        assert 0 < row["threshold"] <= max(row["window_before"], 2)
    assert run.health.events_lost == 0


_HOG = "while True: pass"


def test_a_process_that_must_wait_for_the_processor_is_seen_waiting(network: Network) -> None:
    """A receiver that gives way to everything, on the processor of a program that never sleeps."""
    space = network.namespace("host")
    with space.entered():
        receiver, sender = socket.socket(type=socket.SOCK_DGRAM), socket.socket(type=socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 0))
    thread_id: list[int] = []
    ready, done = threading.Event(), threading.Event()

    def receive() -> None:
        os.sched_setaffinity(0, {0})
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        thread_id.append(threading.get_native_id())
        ready.set()
        while receiver.recv(100) != b"end":
            pass
        done.set()

    thread = threading.Thread(target=receive)
    with ProgramRun("network_wakeups") as run, receiver, sender:
        hog = subprocess.Popen(["taskset", "-c", "0", sys.executable, "-c", _HOG], start_new_session=True)
        try:
            thread.start()
            ready.wait()
            run.until(lambda: longest(run, thread_id[0]) >= 1_000_000 or not _send(sender, receiver))
        finally:
            hog.kill()
            hog.wait()
            sender.sendto(b"end", receiver.getsockname())
            thread.join()
    waits = [row for row in run.rows if row["thread_id"] == thread_id[0]]
    assert longest(run, thread_id[0]) >= 1_000_000
    assert {row["process_pid"] for row in waits} == {os.getpid()} and {row["processor"] for row in waits} == {0}
    assert done.is_set()


def longest(run: ProgramRun, thread_id: int) -> int:
    return max((row["delay_ns"] for row in run.rows if row["thread_id"] == thread_id), default=0)


def _send(sender: socket.socket, receiver: socket.socket) -> int:
    return sender.sendto(b"x", receiver.getsockname())


def test_an_iterator_sees_every_namespace(link: Link, tmp_path: Path) -> None:
    text = row_of(
        "    u32 netns;\n    u16 port;\n    u8 state;  // @enum TCP_ESTABLISHED: state",
        'SEC("iter/tcp")\nint each(struct bpf_iter__tcp *ctx)',
        """    struct sock_common *common = ctx->sk_common;
    if (!common)
        return 0;
    row.netns = netns_of(common);
    row.port = common->skc_num;
    row.state = common->skc_state;
    bpf_seq_write(ctx->meta->seq, &row, sizeof(row));""",
    )
    with ProgramRun(written(tmp_path, text)) as run, link.second.namespace.entered(), traffic.Server() as service:
        port = service.port
        with link.first.namespace.entered(), traffic.Server(port=port):
            run.stop()
    found = {(row["netns"], row["state"]) for row in run.rows if row["port"] == port}
    assert {(end.namespace.inode, "TCP_LISTEN") for end in (link.first, link.second)} <= found


def test_a_program_at_a_cgroup_cannot_stop_traffic(network: Network, tmp_path: Path) -> None:
    """It returns 0, which would mean to drop every packet of this host."""
    text = row_of(
        "    u32 length;  // byte: of the packet",
        'SEC("cgroup_skb/egress")\nint out(struct __sk_buff *skb)',
        "    row.length = skb->len;\n    emit(&row);",
    )
    space = network.namespace("n")
    with ProgramRun(written(tmp_path, text)) as run, space.entered(), traffic.Server() as service:
        done = traffic.exchange(service.address, service.port, [(5000, 7)])
    assert done[0].client_bytes == 5000
    assert sum(row["length"] for row in run.rows) >= 5007


def test_rows_that_do_not_fit_are_counted(tmp_path: Path) -> None:
    text = row_of(
        "    char filler[200];", 'SEC("tp/syscalls/sys_enter_getpriority")\nint f(void *ctx)', "    emit(&row);"
    )
    with ProgramRun(written(tmp_path, text), ring_size=4096) as run:
        for _ in range(1000):
            os.getpriority(os.PRIO_PROCESS, 0)
    assert run.health.events_seen >= 1000
    assert run.health.lost_in_ring == run.health.events_seen - len(run.rows) > 0


SWITCH = 'SEC("raw_tp/sched_switch")\nint on_switch(struct bpf_raw_tracepoint_args *ctx)'
MAP = """struct {
    __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, u32); __type(value, u64);
} seen SEC(".maps");"""


@pytest.mark.parametrize(
    ("body", "line", "words", "hint"),
    [
        ("    row.pid = cpu_of_nothing;", 14, "use of undeclared identifier 'cpu_of_nothing'", "declare it"),
        ("    struct task_struct *task = (void *)ctx->args[1];\n    row.pid = task->pid;", 15,
         "a number is followed as if it were a pointer", "BPF_CORE_READ"),
        ("    u32 key = 0;\n    row.pid = *(u64 *)bpf_map_lookup_elem(&seen, &key);", 15,
         "a pointer that may be NULL is followed", "if (!pointer)"),
        ("    for (u64 i = 0; i < ctx->args[0]; i++)\n        row.pid += bpf_get_prandom_u32();", 0,
         "gives up after a million instructions", "constant bound"),
        ("    char buffer[400], other[400];\n    bpf_get_current_comm(buffer, 400); bpf_get_current_comm(other, 400);\n"
         "    row.pid = buffer[1] + other[2];", 0,
         "more than 512 bytes of stack", "in a map"),
        ("    int at = bpf_get_prandom_u32();\n    char some[8] = {};\n    row.pid = some[at];", 16,
         "an index or size has no bounds", "limit it"),
        ("    static u64 total;\n    row.pid = total++;", 14, "total is a global variable", "in a map"),
        ("    bpf_skb_load_bytes(ctx, 0, &row, 4);", 14, "this kind of program may not call", ""),
    ],
)  # fmt: skip
def test_what_is_broken_is_shown_in_the_authors_lines(
    tmp_path: Path, body: str, line: int, words: str, hint: str
) -> None:
    path = written(tmp_path, row_of("    u32 pid;", SWITCH, body + "\n    emit(&row);", MAP))
    said = check(path)
    place = f"mine.bpf.c:{line}: " if line else "mine.bpf.c"
    assert place in said and words in said and hint in said
    if line:
        assert path.read_text().splitlines()[line - 1].strip() in said


@pytest.mark.parametrize("name", ["accept_latency", "network_wakeups", "window_collapses"])
def test_a_shipped_program_that_was_broken_is_refused(name: str, tmp_path: Path) -> None:
    """Each works as it is, and is refused when a row is used without the check that it needs."""
    text = (ROOT / "recorder" / "programs" / f"{name}.bpf.c").read_text()
    assert not check(name)
    broken = {
        "accept_latency": ("    if (!since)\n        return 0;\n", ""),
        "network_wakeups": ("    if (!since)\n        return 0;\n", ""),
        "window_collapses": ("BPF_CORE_READ(tp, prior_cwnd)", "tp->prior_cwnd"),
    }[name]
    assert broken[0] in text
    said = check(written(tmp_path, text.replace(*broken)))
    assert "may be NULL" in said or "as if it were a pointer" in said
    assert " | " in said  # the line itself


def test_the_program_of_the_documentation(network: Network, tmp_path: Path) -> None:
    """It records what it says: the packets that leave this host, by their length."""
    page = (ROOT / "docs" / "programs.md").read_text()
    path = written(tmp_path, page.partition("```c\n")[2].partition("```")[0])
    space = network.namespace("n")
    with ProgramRun(path) as run, space.entered(), traffic.Server() as service:
        traffic.exchange(service.address, service.port, [(5000, 7)])
    assert sum(row["length"] for row in run.rows) >= 5007


def test_a_hook_that_this_kernel_does_not_have(tmp_path: Path) -> None:
    for hook in ('SEC("tp/sched/no_such_thing")', 'SEC("raw_tp/no_such_thing")'):
        path = written(tmp_path, row_of("    u32 pid;", f"{hook}\nint f(void *ctx)", "    emit(&row);"))
        said = check(path)
        assert "mine.bpf.c:8: " in said and "no tracepoint" in said
        with pytest.raises(CannotRecordError, match="no_such_thing"), ProgramRun(path):
            pass


def test_an_enum_that_this_kernel_does_not_have(tmp_path: Path) -> None:
    path = written(tmp_path, row_of("    u32 what;  // @enum no_such_enum: x", SWITCH, "    emit(&row);"))
    with pytest.raises(ProgramError, match=r"mine\.bpf\.c:5: this kernel has no enum no_such_enum"), ProgramRun(path):
        pass


def check(program: str | Path) -> str:
    """What `netrec programs check` says of a program in this process: empty when it is accepted."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main(["programs", "check", str(program)])
    assert ended.value.code == (2 if err.getvalue() else 0)
    assert bool(err.getvalue()) != bool(out.getvalue())
    return err.getvalue()
