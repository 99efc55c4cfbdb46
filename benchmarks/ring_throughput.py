"""Two million synthetic records a second through a real BPF ring buffer into NumPy: what is lost, what it costs.

A raw tracepoint program on sys_enter writes a burst of records at every getppid() of one process; the process calls it
at the rate that makes two million records a second.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing.synchronize import Event

import numpy as np

from benchmarks.harness import Options, Report, Target
from recorder.bpf import syscalls
from recorder.bpf.compiler import RAW_TRACEPOINT, Build, Request
from recorder.bpf.ring import RingBuffer
from recorder.sources.ebpf.records import FLOW

RATE, SECONDS, BURST = 2_000_000, 2.0, 20
RING = 64 << 20
GETPPID = {"x86_64": 110, "aarch64": 173}
PROGRAM = """
struct record { u64 number; u64 rest[%d]; };
BPF_RINGBUF_OUTPUT(ring, RING_PAGES);
BPF_TABLE("array", u32, u64, state, 3);                     /* process, records written, records lost */
int produce(struct bpf_raw_tracepoint_args *ctx)
{
    u32 key = 0, written_key = 1, lost_key = 2;
    if (ctx->args[1] != SYSTEM_CALL)
        return 0;
    u64 *process = state.lookup(&key), *written = state.lookup(&written_key), *lost = state.lookup(&lost_key);
    if (!process || !written || !lost || *process != bpf_get_current_pid_tgid() >> 32)
        return 0;
    #pragma unroll
    for (int i = 0; i < BURST; i++) {
        struct record *record = ring.ringbuf_reserve(sizeof(*record));
        if (!record) { *lost += 1; continue; }
        __builtin_memset(record, 0, sizeof(*record));
        record->number = *written;
        *written += 1;
        ring.ringbuf_submit(record, 1);
    }
    return 0;
}
"""


def _call(seconds: float, ready: Event) -> None:
    """Call getppid() evenly, RATE / BURST times a second."""
    ready.wait()
    start, done, step = time.perf_counter(), 0, os.getppid
    while (now := time.perf_counter() - start) < seconds:
        for _ in range(int(now * RATE / BURST) - done):
            step()
            done += 1


def run(options: Options) -> Report:
    seconds = SECONDS if not options.quick else 0.2
    record = np.dtype([("number", "u8"), ("rest", "u8", FLOW.itemsize // 8 - 1)])
    defines = {"RING_PAGES": RING // 4096, "BURST": BURST, "SYSTEM_CALL": GETPPID[os.uname().machine]}
    text = PROGRAM % (FLOW.itemsize // 8 - 1)
    loaded = Build(Request(text, defines, {"produce": RAW_TRACEPOINT}, ["ring", "state"])).finish()
    ring = RingBuffer(loaded.maps["ring"], RING, record)
    ready = multiprocessing.Event()
    child = multiprocessing.Process(target=_call, args=(seconds, ready))
    child.start()
    link = -1
    try:
        syscalls.update(loaded.maps["state"], np.zeros(1, np.uint32), np.array([child.pid], np.uint64))
        link = syscalls.attach_raw_tracepoint(loaded.functions["produce"], "sys_enter")
        ready.set()
        got, in_order, cpu = 0, True, time.process_time()
        numbers = np.empty(0, np.uint64)
        while child.is_alive() or len(numbers):
            numbers = ring.drain()["number"]
            in_order &= bool((numbers == np.arange(got, got + len(numbers), dtype=np.uint64)).all())
            got += len(numbers)
            if len(numbers) * 4 * (FLOW.itemsize + 8) < RING:
                time.sleep(0.01)
        cpu = time.process_time() - cpu
        lost = [syscalls.look_up(loaded.maps["state"], key) for key in (1, 2)]
    finally:
        child.join()
        if link >= 0:
            os.close(link)
        ring.close()
        loaded.close()
    report = Report(["records", "of bytes", "records/s", "lost in the ring", "in order", "user+system us/record"])
    report.rows = [
        [got, FLOW.itemsize, got / seconds, lost[1], str(in_order and got == lost[0]), cpu / max(got, 1) * 1e6]
    ]
    report.targets = [
        Target("records/s", got / seconds, 0.95 * RATE, "", at_least=True),
        Target("records lost or out of order", lost[1] + (got != lost[0]) + (not in_order), 0),
    ]
    return report
