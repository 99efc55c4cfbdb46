"""When connections that the kernel has skipped are looked for: always, or from the first skip on."""

from __future__ import annotations

from recorder.sources.ebpf.records import CONTROL_SKIPPED, CONTROL_UNSEEN
from recorder.sources.ebpf.skips import Skips


class Kernel:
    def __init__(self, filtered: bool = False) -> None:
        self.skipped = 0
        self.words: dict[int, int] = {}
        self.skips = Skips(self.words.__setitem__, lambda: self.skipped, filtered)


def test_where_everything_is_recorded_they_are_looked_for_at_once() -> None:
    kernel = Kernel()
    kernel.skips.notice()
    assert not kernel.words  # what was open before is not known yet
    kernel.skips.sample(1, 1)
    assert kernel.words[CONTROL_UNSEEN] == 1
    kernel.skipped = 3
    kernel.skips.notice()
    assert kernel.skips.take_lost() == 0


def test_with_a_filter_from_the_first_skip_on_which_counts_as_lost() -> None:
    kernel = Kernel(filtered=True)
    kernel.skips.sample(1, 1)
    kernel.skips.notice()
    assert kernel.words[CONTROL_UNSEEN] == 0
    kernel.skipped = 2
    kernel.skips.notice()
    assert kernel.words[CONTROL_UNSEEN] == 1
    kernel.skipped = 5
    kernel.skips.notice()
    assert (kernel.skips.take_lost(), kernel.skips.take_lost()) == (2, 0)


def test_a_sample_stops_it_only_where_nothing_was_ever_skipped() -> None:
    kernel = Kernel()
    kernel.skips.sample(1, 1)
    kernel.skips.sample(16, 16)
    assert kernel.words[CONTROL_UNSEEN] == 0
    kernel.skips.sample(1, 16)
    assert kernel.words[CONTROL_UNSEEN] == 16
    kernel.skipped = 1
    kernel.skips.sample(4, 16)
    assert kernel.words[CONTROL_UNSEEN] == 16 and kernel.skips.take_lost() == 0


def test_a_search_is_for_skips_since_the_last() -> None:
    kernel = Kernel()
    kernel.skips.before_search()
    assert kernel.words[CONTROL_SKIPPED] == 0
    kernel.skipped = 1
    kernel.skips.before_search()
    assert kernel.words[CONTROL_SKIPPED] == 1
    kernel.skips.before_search()
    assert kernel.words[CONTROL_SKIPPED] == 0
