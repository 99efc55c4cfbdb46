"""The same traffic against itself: 1,000 random pairs of windows of one steady recorded workload, none regressed."""

from __future__ import annotations

import multiprocessing
import random
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from benchmarks.harness import Options, Report, Target
from benchmarks.recorded.recording import ask, folder, known, record
from sample_traces.sample import Sample
from sample_traces.stage import OPTIONS, Stage

GROUP = "same_again"
MINUTES = 20
LOST_PERCENT = 2
ROTATED = (*OPTIONS, "--rotate-interval", "2m")
PAIRS = 1000
SHORTEST, LONGEST = 100, 300  # seconds of a window
AT_ONCE = 2
VERDICTS = ("regressed", "improved", "pass", "inconclusive")


def run(options: Options) -> Report:
    """Record the steady workload for 20 minutes (an hour when `large`) and compare its windows.

    A window is drawn anew for each pair, as long as its partner and apart from it.
    """
    name = "steady_long" if options.large else "steady"
    problems = record([(GROUP, name)])
    if problems:
        raise RuntimeError(problems[name])
    trace = next(iter(WORKLOADS[name].traces))
    pairs = draw(known(trace)["phases"]["all"], options.size(PAIRS, 8))
    with ProcessPoolExecutor(AT_ONCE, mp_context=multiprocessing.get_context("spawn")) as pool:
        answers = list(pool.map(partial(_compare, trace), pairs, chunksize=4))
    verdicts = Counter(answer["verdict"] for answer in answers)
    counted = _by_metric(answers) | {"overall": verdicts}
    report = Report(["metric", *VERDICTS])
    report.rows = [[metric, *(counts[verdict] for verdict in VERDICTS)] for metric, counts in counted.items()]
    report.targets = [Target("called regressed", 100 * verdicts["regressed"] / len(answers), 1.0, "%")]
    wrong = [f"{' with '.join(pair)}: {answer['sentence']}" for pair, answer in zip(pairs, answers, strict=True)
             if answer["verdict"] == "regressed"]  # fmt: skip
    report.notes = [
        "the windows of a recording overlap from pair to pair: so many pairs are not so many independent trials",
        *wrong[:10],
    ]
    return report


def draw(whole: dict[str, str], number: int) -> list[tuple[str, str]]:
    """Pairs of windows, each START/END, that lie apart within the `whole`; the same ones every time."""
    chance = random.Random(1)
    begin, end = (datetime.fromisoformat(whole[side]) for side in ("since", "until"))
    found = []
    for _ in range(number):
        length = chance.uniform(SHORTEST, min(LONGEST, (end - begin).total_seconds() / 2.5))
        # Two points of what is left beside both windows: the later window starts one window after its point.
        first, second = sorted(chance.uniform(0, (end - begin).total_seconds() - 2 * length) for _ in range(2))
        starts = [begin + timedelta(seconds=seconds) for seconds in (first, second + length)]
        windows = [f"{start.isoformat()}/{(start + timedelta(seconds=length)).isoformat()}" for start in starts]
        chance.shuffle(windows)
        found.append((windows[0], windows[1]))
    return found


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
        stage.drop(router, f"numgen random mod 100 < {LOST_PERCENT} drop", hook="forward")
        with stage.recording(name, home=site.web, options=ROTATED):
            loads = [
                stage.users(site, 40, sources=site.sources),
                stage.clients(office.namespace, {"reports": site.url(200, 8000)}, rate=10, upload=15_000, seed=2),
            ]  # fmt: skip
            stage.phase("all", 60 * minutes)
            stage.known[name]["counts"] = [load.end() for load in loads]

    return Sample(number, {name: "a service that stays as it is"}, play)


WORKLOADS: dict[str, Sample] = {
    "steady": _steady(61, "steady", MINUTES),
    "steady_long": _steady(62, "steady-long", 3 * MINUTES),
}
