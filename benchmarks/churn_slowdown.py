"""What recording costs the recorded: slowdown of short connections over loopback, netrec beside its peers.

Short loads with a recorder and without one take turns; each is compared with the mean of its two neighbours,
and the figure is the median over the pairs. One client and server on a core of their own miss all that the programs in
the kernel take; two pairs leave no idle time on two cores, and miss whatever the recorder takes. What the programs take
of a connection is measured apart, too, by themselves: where the machine is shared, that says more than a slowdown.
"""

from __future__ import annotations

from benchmarks.churn import LOADS, Watcher, block, connections_in, in_kernel, watchers
from benchmarks.harness import Options, PeerMissing, Report, Target, beside, interval, median, scratch

# What else a shared machine does changes from second to second, so many short blocks say more than few long ones.
BLOCK_SECONDS, QUICK_CONNECTIONS = 0.5, 500
# Pairs at most, and seconds after which no further pair begins: for netrec, and for each peer.
OURS, PEERS = (60, 90), (6, 12)
LIMIT = 8.0


def run(options: Options) -> Report:
    report = Report(
        [
            "load",
            "recorder",
            "pairs",
            "connections/s alone",
            "with it",
            "slowdown %, median",
            "95% interval",
            "more CPU in the load %",
        ]
    )
    with scratch() as folder:
        found, report.notes = watchers(folder)
        for load in LOADS:
            for watcher in found:
                try:
                    _slowdown(report, options, load, watcher)
                except (PeerMissing, RuntimeError) as problem:
                    report.notes.append(f"{load}: {watcher.name} left out: {problem}")
                (folder / "tcpdump.pcap").unlink(missing_ok=True)
        used = in_kernel(folder / "in-kernel", options.size(60_000, 1_000))
    report.notes += [
        f"netrec's programs in the kernel take {used.us_per_connection:.1f} us of a connection (both of its ends, ten "
        f"changes of state), {used.share:.1f}% of the load's time.",
        f"A block takes about {BLOCK_SECONDS} s.",
    ]
    return report


def _slowdown(report: Report, options: Options, load: str, watcher: Watcher) -> None:
    quick = QUICK_CONNECTIONS * LOADS[load].pairs
    connections = quick if options.quick else connections_in(LOADS[load], BLOCK_SECONDS)

    def one_block(recorded: bool) -> dict[str, float]:
        return block(watcher if recorded else None, load, connections, 1)

    ours = watcher.name == "netrec"
    most, seconds = OURS if ours else PEERS
    pairs = beside(one_block, options.size(most, 1), seconds, options.size(3, 1))
    slower = [(alone["rate"] / one["rate"] - 1) * 100 for one, alone in pairs]
    cpu = [(one["cpu"] / alone["cpu"] - 1) * 100 for one, alone in pairs]
    rates = [median([alone["rate"] for _, alone in pairs]), median([one["rate"] for one, _ in pairs])]
    report.rows.append([load, watcher.name, len(pairs), *rates, median(slower), interval(slower), median(cpu)])
    if ours and load == "one pair":
        report.targets.append(Target(f"slowdown of {load}, median", median(slower), LIMIT, "%"))
