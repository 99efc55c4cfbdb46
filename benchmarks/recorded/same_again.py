"""The same traffic against itself: 1,000 random pairs of windows of one steady recorded workload, none regressed.

Other things run on the host, and what they take makes round trips longer: then the workload is not steady. How busy the
processors were is noted while it is recorded, and pairs of windows in which that differs are not drawn. Where one
recording has too few that are alike, the workload is recorded once more, and the rest is drawn from that.
"""

from __future__ import annotations

import multiprocessing
import random
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.harness import Options, Report, Target
from benchmarks.recorded.recording import ask, folder, known, record
from sample_traces.sample import Sample
from sample_traces.stage import OPTIONS, Stage

GROUP = "same_again"
MINUTES = {"steady": 5.0, "steady_short": 3.0, "steady_long": 60.0, "steady_again": 5.0}
LOST_PER_MILLE = 5  # on one path, as healthy ones lose now and then
ROTATED = (*OPTIONS, "--rotate-interval", "2m")
PAIRS = 1000
SHORTEST, LONGEST = 90, 300  # seconds of a window
AS_BUSY = 0.10  # of all processor time may the windows of a pair differ in
DRAWN = 20  # times as many pairs as are wanted, before it is said that the host was too uneven
AT_ONCE = 2
VERDICTS = ("regressed", "improved", "pass", "inconclusive")


def run(options: Options) -> Report:
    """Record the steady workload (5 minutes, at most twice; an hour when `large`) and compare its windows.

    A window is drawn anew for each pair, as long as its partner and apart from it.
    """
    names = ["steady_long"] if options.large else ["steady_short"] if options.quick else ["steady", "steady_again"]
    number = options.size(PAIRS, 8)
    drawn: list[tuple[str, tuple[str, str]]] = []
    uneven, notes = 0, list[str]()
    for name in names:
        recorded = record([(GROUP, name)])
        if recorded.problems:
            raise RuntimeError(recorded.problems[name])
        fresh = f"recorded in {recorded.seconds:.0f} s" if recorded.fresh else "was recorded before"
        notes.append(f"{name} {fresh}")
        trace = next(iter(WORKLOADS[name].traces))
        found, left_out = draw(known(trace), number - len(drawn))
        drawn += [(trace, pair) for pair in found]
        uneven += left_out
        if len(drawn) == number:
            break
    start = time.monotonic()
    if not drawn:
        raise RuntimeError("the host was too unevenly busy: record again, rm -r benchmarks/.cache/recorded/steady*")
    with ProcessPoolExecutor(AT_ONCE, mp_context=multiprocessing.get_context("spawn")) as pool:
        answers = list(pool.map(_compare, *zip(*drawn, strict=True), chunksize=4))
    pairs = [pair for _, pair in drawn]
    verdicts = Counter(answer["verdict"] for answer in answers)
    counted = _by_metric(answers) | {"overall": verdicts}
    report = Report(["metric", *VERDICTS])
    report.rows = [[metric, *(counts[verdict] for verdict in VERDICTS)] for metric, counts in counted.items()]
    report.targets = [
        Target("pairs compared", len(pairs), number, "pairs", True),
        Target("called regressed", 100 * verdicts["regressed"] / len(answers), 1.0, "%"),
        Target("passed or improved", 100 * (verdicts["pass"] + verdicts["improved"]) / len(answers), 75.0, "%", True),
    ]
    wrong = [f"{' with '.join(pair)}: {answer['sentence']}" for pair, answer in zip(pairs, answers, strict=True)
             if answer["verdict"] == "regressed"]  # fmt: skip
    report.notes = [
        f"{len(pairs)} of {number} pairs; {uneven} more were drawn and left out, as the host was busier in one "
        f"window by more than {AS_BUSY:.0%} of its processor time",
        *notes,
        f"the questions took {time.monotonic() - start:.0f} s",
        "the windows of a recording overlap from pair to pair: so many pairs are not so many independent trials",
        *wrong[:10],
    ]
    return report


def draw(what: dict[str, Any], number: int) -> tuple[list[tuple[str, str]], int]:
    """Pairs of windows, each START/END, that lie apart within what is `known` of a trace, and how many others were left
    out because the host was not as busy in both; the same ones every time.
    """
    chance, whole = random.Random(1), what["phases"]["all"]
    begin, end = (datetime.fromisoformat(whole[side]) for side in ("since", "until"))
    found: list[tuple[str, str]] = []
    for drawn in range(DRAWN * number):
        if len(found) == number:
            return found, drawn - number
        length = chance.uniform(SHORTEST, min(LONGEST, (end - begin).total_seconds() / 2.5))
        # Two points of what is left beside both windows: the later window starts one window after its point.
        first, second = sorted(chance.uniform(0, (end - begin).total_seconds() - 2 * length) for _ in range(2))
        windows = [
            (begin + timedelta(seconds=start), begin + timedelta(seconds=start + length))
            for start in (first, second + length)
        ]
        chance.shuffle(windows)
        busy = [_busy(what["host"], *window) for window in windows]
        if abs(busy[0] - busy[1]) <= AS_BUSY:
            before, after = (f"{since.isoformat()}/{until.isoformat()}" for since, until in windows)
            found.append((before, after))
    return found, DRAWN * number - len(found)


def _busy(host: Sequence[Sequence[float]], since: datetime, until: datetime) -> float:
    """The share of processor time that was used between two moments."""
    times = [row[0] for row in host]
    first, last = (host[min(bisect_left(times, one.timestamp()), len(host) - 1)] for one in (since, until))
    return (last[1] - first[1]) / max(last[2] - first[2], 1.0)


@contextmanager
def _watched_host() -> Iterator[list[list[float]]]:
    """A list that grows while the block runs: every second the time, and the ticks used and all ticks since boot."""
    rows: list[list[float]] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(1.0):
            ticks = [int(one) for one in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
            rows.append([datetime.now(UTC).timestamp(), sum(ticks) - ticks[3] - ticks[4], sum(ticks)])

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield rows
    finally:
        over.set()
        thread.join()


def _compare(trace: str, pair: tuple[str, str]) -> dict[str, Any]:
    return ask("compare", folder(trace), "--baseline", pair[0], "--candidate", pair[1])


def _by_metric(answers: list[dict[str, Any]]) -> dict[str, Counter[str]]:
    """How often each gating metric got which verdict."""
    found: dict[str, Counter[str]] = {}
    for answer in answers:
        for row in answer["metrics"]:
            if row["verdict"] != "information":
                found.setdefault(row["metric"], Counter())[row["verdict"]] += 1
    return found


def _steady(number: int, name: str, minutes: float) -> Sample:
    def play(stage: Stage) -> None:
        site = stage.site(delay=0.003)
        office, router = stage.office(site)
        # A steady loss on one path, so that there are retransmits to compare.
        stage.drop(router, f"numgen random mod 1000 < {LOST_PER_MILLE} drop", hook="forward")
        with stage.recording(name, home=site.web, options=ROTATED), _watched_host() as host:
            loads = [
                stage.users(site, 60, sources=site.sources),
                stage.clients(office.namespace, {"reports": site.url(200, 8000)}, rate=15, upload=15_000, seed=2),
            ]  # fmt: skip
            stage.phase("all", 60 * minutes)
            stage.known[name] |= {"counts": [load.end() for load in loads], "host": host}

    return Sample(number, {name: "a service that stays as it is"}, play)


WORKLOADS: dict[str, Sample] = {
    name: _steady(61 + place, name.replace("_", "-"), minutes) for place, (name, minutes) in enumerate(MINUTES.items())
}
