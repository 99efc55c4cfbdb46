"""The ebpf source: attaches the programs, drains their ring, scans what is alive, makes rows."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from netrec.errors import CannotRecordError
from recorder.bpf import syscalls
from recorder.bpf.clock import UtcClock
from recorder.bpf.compiler import Build, Loaded
from recorder.bpf.ring import RingBuffer
from recorder.bpf.run_times import RunTimes
from recorder.clock import boot_ns
from recorder.source import CaptureContext, Effort, SourceHealth
from recorder.sources.ebpf import cgroup_hooks, protocols
from recorder.sources.ebpf import records as r
from recorder.sources.ebpf.programs import (
    DATAGRAMS,
    DNS,
    EVENTS,
    FILTER_CGROUPS,
    MAX_PENDING,
    TCP,
    chosen,
    kernel_filter,
    max_events,
    max_flows,
    places,
    ring_bytes,
)
from recorder.sources.ebpf.skips import Skips

if TYPE_CHECKING:
    from recorder.dns.names import NameTable
    from recorder.process_details import ProcessDetails
    from recorder.sources.ebpf.datagrams import DatagramSource
    from recorder.sources.ebpf.dns import DnsSource
    from recorder.sources.ebpf.ended import EndedFlows
    from recorder.sources.ebpf.events import EventSource
    from recorder.sources.ebpf.kernel_filter import CgroupTerms
    from recorder.sources.ebpf.open_flows import OpenFlows


class EbpfSource:
    """A running `ebpf` source: the life cycle of `recorder.source.Source`."""

    def __init__(self, context: CaptureContext, build: Build, details: ProcessDetails | None = None) -> None:
        settings = context.settings
        self._effort = Effort(active_timeout=settings.get("active_timeout", 10.0))
        self._max_flows = max_flows(settings)
        self._ring_size = ring_bytes(settings)
        self._context = context
        self._parts = chosen(settings)
        # Those of the events first: they look at what the others are about to change.
        self._tracepoints = {
            name: tracepoint for part in reversed(self._parts) for name, tracepoint in part.tracepoints.items()
        }
        self._tcp = "tcp" in protocols.chosen(settings)
        if not self._tcp:
            self._tracepoints = {}
        self._idle_timeout_ns = int(settings.get("idle_timeout", 30.0) * 1e9)
        self._datagrams: DatagramSource | None = None
        self._events: EventSource | None = None
        self._dns: DnsSource | None = None
        self._cgroup_terms: CgroupTerms | None = None
        self._links: list[int] = []
        # Where a budget needs to know how long the programs run.
        self._run_times: RunTimes | None = None
        self._loaded: Loaded | None = None
        self._ring: RingBuffer | None = None
        self._ended: EndedFlows | None = None
        self._open: OpenFlows | None = None
        self._last_counters = np.zeros(len(r.COUNTERS), np.int64)
        self._last_misses = 0
        self._next_scan = 0
        self._clock = UtcClock()
        self._largest_interval = 1
        self._last_health = SourceHealth()
        self._details = details
        self._build: Build | None = build

    def capabilities(self) -> set[str]:
        """Maps; the paths of cgroups; with events the counters of other network namespaces; with process details the
        executables of other users' processes."""
        needed = {"bpf", "dac_read_search"}
        if self._details:
            needed.add("sys_ptrace")
        if self._events:
            needed |= {"sys_admin", "sys_ptrace"}
        return needed

    def start(self) -> None:
        """Attach first, then look at what was open before: nothing falls in between. Raises `CannotRecordError`."""
        # The compiler's process is at work meanwhile: this is the time for the expensive imports.
        from recorder.sources.ebpf.ended import EndedFlows
        from recorder.sources.ebpf.gather import client_ports
        from recorder.sources.ebpf.intake import Intake
        from recorder.sources.ebpf.live import LiveFlows
        from recorder.sources.ebpf.open_flows import OpenFlows
        from recorder.sources.ebpf.owners import CgroupResolver
        from recorder.sources.ebpf.rows import RowMaker

        assert self._build is not None
        loaded = self._loaded = self._build.finish()
        self._build = None
        self._live = LiveFlows()
        self._cgroups = CgroupResolver()
        self._rows = RowMaker(self._context.host, self._cgroups, self._clock.offset_ns, self._details)
        self._ring = RingBuffer(loaded.maps["flows"], self._ring_size, r.FLOW)
        ended = self._ended = EndedFlows(
            Intake(self._ring),
            self._live,
            self._rows,
            numbered=EVENTS in self._parts,
            ports=client_ports(self._context.settings.get("filter")),
        )
        self._ended.together = self._effort.together
        self._counters = syscalls.PerCpuArray(loaded.maps["counters"], len(r.COUNTERS))
        self._largest_interval = self._effort.sampling
        self._set_control(r.CONTROL_SAMPLING, self._effort.sampling)
        if self._context.settings.get("max_cpu"):
            self._run_times = RunTimes(
                lambda timing: self._set_control(r.CONTROL_TIMING, timing),
                lambda: int(self._counters.read()[r.COUNTERS.index("run_time")]),
            )
        filtering = kernel_filter(self._context.settings)
        tcp_state = loaded.functions["tcp_state"]
        self._skips = Skips(self._set_control, lambda: syscalls.recursion_misses(tcp_state), filtering is not None)
        if filtering and filtering.cgroup_terms:
            from recorder.sources.ebpf.kernel_filter import CgroupTerms

            self._cgroup_terms = CgroupTerms(loaded.maps[FILTER_CGROUPS], filtering.cgroup_terms, self._cgroups.hybrid)
            self._cgroup_terms.refresh()
        typed = {name for part in self._parts for name in part.typed}
        for name, tracepoint in self._tracepoints.items():
            function = loaded.functions[name]
            self._links.append(syscalls.attach_raw_tracepoint(function, tracepoint, typed=name in typed))
        if self._tcp:
            # Only for connect() without a route: where others' programs leave no room there, or without cgroup2, all
            # else is recorded.
            with contextlib.suppress(CannotRecordError):
                self._links += cgroup_hooks.attach(loaded, TCP.cgroup_hooks, "")
        self._open = OpenFlows(loaded, self._live, self._rows, self._skips, self._set_control, tcp=self._tcp)
        if DATAGRAMS in self._parts:
            from recorder.sources.ebpf.datagrams import DatagramSource

            self._datagrams = DatagramSource(
                loaded,
                self._rows,
                self._live.reserve,
                self._max_flows,
                self._idle_timeout_ns,
                self._ended.drain,
            )
            self._datagrams.filter = self._context.settings.get("filter")
            self._datagrams.sample(self._effort.sampling)
        if EVENTS in self._parts:
            from recorder.sources.ebpf.events import EventSource

            settings = self._context.settings
            self._events = EventSource(
                loaded, max_events(settings), self._counters, self._open.listeners, self._ended.drain
            )
        if DNS in self._parts:
            from recorder.sources.ebpf.dns import DnsSource

            self._dns = DnsSource(loaded)

        def meanwhile() -> None:
            ended.drain()  # no rows yet: what has ended waits for the baseline
            self._poll_others()

        self._open.baseline(meanwhile)
        if self._events:
            self._events.start()
        self._skips.sample(self._effort.sampling, self._largest_interval)
        self._schedule_scan()

    def adjust(self, effort: Effort) -> None:
        """From now on. TCP flows that are recorded already go on whole, with the weight that they were chosen with."""
        before, self._effort = self._effort, effort
        if self._loaded is None:
            return
        assert self._ended is not None
        self._ended.together = effort.together
        if self._datagrams:
            self._datagrams.together = effort.together
        if effort.sampling != before.sampling:
            self._largest_interval = max(self._largest_interval, effort.sampling)
            self._set_control(r.CONTROL_SAMPLING, effort.sampling)
            self._skips.sample(effort.sampling, self._largest_interval)
            if self._datagrams:
                self._datagrams.sample(effort.sampling)
        if effort.active_timeout != before.active_timeout:
            self._schedule_scan()

    def names(self) -> tuple[NameTable, int] | None:
        """The names that this host's DNS clients have learned, and the microseconds from its clock to UTC."""
        return (self._dns.observer.names, self._clock.offset_ns() // 1000) if self._dns else None

    def poll(self) -> bool:
        """Empty the ring into memory; True when it was more than a quarter full."""
        assert self._ended is not None
        fill = self._ended.drain()
        self._skips.notice()
        self._poll_others()
        if self._run_times:
            self._run_times.step()
        return fill * 4 > self._ring_size

    def _poll_others(self) -> None:
        if self._datagrams:
            self._datagrams.poll()
        if self._dns:
            self._dns.poll()

    def patience(self) -> float:
        """The programs wake whoever waits, before anything is full."""
        return self._run_times.until_step() if self._run_times else math.inf

    def wakes(self) -> tuple[int, ...]:
        """The rings' descriptors."""
        assert self._loaded is not None
        return tuple(self._loaded.maps[ring] for ring in ("flows", "dns_packets") if ring in self._loaded.maps)

    def read(self) -> Iterator[tuple[str, Any]]:
        """Rows of the flows that have ended since the last call and, when the active timeout is due, of the others."""
        if self._cgroup_terms:
            self._cgroup_terms.refresh()
        if self._events:
            self._events.take()
        yield from self._take_ended()
        assert self._open is not None
        due = boot_ns() >= self._next_scan
        if due:
            self._schedule_scan()
            yield from (("flows", batch) for batch in self._open.rows(self._active_timeout_ns // 2))
        if self._datagrams:
            yield from self._datagrams.rows(self._active_timeout_ns if due else None)
        if self._events:
            yield from self._events.rows(self._live, self._rows)
        if self._dns:
            yield from self._dns.rows(self._rows)

    def health(self) -> SourceHealth:
        """Counters since the last call; after `stop`, what came until then."""
        if self._loaded is None or self._ring is None or self._ended is None or self._open is None:
            last, self._last_health = self._last_health, SourceHealth()
            return last
        counters = self._counters.read().astype(np.int64)
        new = dict(zip(r.COUNTERS, counters - self._last_counters, strict=True))
        total = dict(zip(r.COUNTERS, counters, strict=True))
        made_good = {name for part in self._parts for name in part.made_good}
        misses = sum(
            syscalls.recursion_misses(self._loaded.functions[name]) for name in set(self._tracepoints) - made_good
        )
        health = SourceHealth(
            events_seen=self._ended.records,
            lost_in_ring=int(new["lost_ring"] + new["lost_dns"]),
            lost_in_map=int(new["lost_map"] + new["lost_events"] + new["lost_datagrams"]),
            lost_in_kernel=misses - self._last_misses + self._skips.take_lost(),
            owners_known=self._ended.owners_known + self._open.owners_known,
            map_used=int(total["inserted"] - total["deleted"]),
            map_limit=places(self._context.settings),
            ring_used=self._ring.peak,
            ring_limit=self._ring_size,
        )
        if self._run_times is not None:
            health.programs_cpu_us = self._run_times.take()
        if self._datagrams:
            health.events_seen += self._datagrams.rows_made
            health.owners_known += self._datagrams.owners_known
            self._datagrams.rows_made = self._datagrams.owners_known = 0
        self._last_counters, self._last_misses = counters, misses
        self._open.owners_known = self._ended.records = self._ended.owners_known = self._ring.peak = 0
        return health

    def stop(self) -> Iterator[tuple[str, Any]]:
        """Detach, and make the last rows: of what has ended, and of what is still open (`forced`)."""
        if self._run_times:
            self._run_times.stop()
        assert self._open is not None and self._ended is not None
        before = self._open.scan(0)
        self._detach()
        if self._events:
            self._events.take()
        yield from self._take_ended(last=True)
        yield from (("flows", batch) for batch in self._open.last_rows(before, self._ended.last_ids))
        if self._datagrams:
            yield from self._datagrams.last_rows()
        if self._events:
            yield from self._events.rows(self._live, self._rows)
        if self._dns:
            yield from self._dns.rows(self._rows)
        self._last_health = self.health()
        self.close()

    def close(self) -> None:
        """Let go of everything in the kernel; safe at any time and more than once."""
        if self._build is not None:
            self._build.cancel()
            self._build = None
        self._detach()
        if self._open is not None:
            self._open.close()
        if self._ring is not None:
            self._ring.close()
            self._ring = None
            self._cgroups.close()
            if self._dns:
                self._dns.close()
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = self._datagrams = None

    def _detach(self) -> None:
        for link in self._links:
            with contextlib.suppress(OSError):
                os.close(link)
        self._links = []
        if self._datagrams:
            self._datagrams.stop()
        if self._dns:
            self._dns.stop()

    @property
    def _active_timeout_ns(self) -> int:
        return int(self._effort.active_timeout * 1e9)

    def _set_control(self, place: int, value: int) -> None:
        assert self._loaded is not None
        syscalls.update(self._loaded.maps["control"], np.array([place], np.uint32), np.array([value], np.uint64))

    def _schedule_scan(self) -> None:
        """The next multiple of the active timeout by the wall clock, so that the hosts of a site scan alike."""
        now, offset = boot_ns(), self._clock.offset_ns()
        due = math.floor((now + offset) / self._active_timeout_ns + 1) * self._active_timeout_ns
        self._next_scan = due - offset

    def _take_ended(self, *, last: bool = False) -> Iterator[tuple[str, Any]]:
        self.poll()
        assert self._loaded is not None and self._ended is not None
        # Closed, but nobody has been seen to close them since the last call.
        self._set_control(r.CONTROL_PENDING, 0)
        waiting = syscalls.take_all(self._loaded.maps["pending"], r.FLOW, MAX_PENDING)
        yield from (("flows", batch) for batch in self._ended.take(waiting, last=last))
