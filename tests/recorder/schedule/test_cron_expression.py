from __future__ import annotations

import itertools
import subprocess
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.schedule.cron import CronExpression

START = datetime(2026, 11, 22, 10, 30)  # a Sunday


def first(text: str, count: int = 3, start: datetime = START) -> list[str]:
    times = itertools.islice(CronExpression.parse(text).after(start), count)
    return [time.strftime("%a %Y-%m-%d %H:%M") for time in times]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 * * * *", ["Sun 2026-11-22 11:00", "Sun 2026-11-22 12:00", "Sun 2026-11-22 13:00"]),
        ("*/20 * * * *", ["Sun 2026-11-22 10:40", "Sun 2026-11-22 11:00", "Sun 2026-11-22 11:20"]),
        ("30 10 * * *", ["Mon 2026-11-23 10:30", "Tue 2026-11-24 10:30", "Wed 2026-11-25 10:30"]),
        ("5-15/5 9 * * mon-fri", ["Mon 2026-11-23 09:05", "Mon 2026-11-23 09:10", "Mon 2026-11-23 09:15"]),
        ("0 0 1 jan *", ["Fri 2027-01-01 00:00", "Sat 2028-01-01 00:00", "Mon 2029-01-01 00:00"]),
        ("0 0 29 2 *", ["Tue 2028-02-29 00:00", "Sun 2032-02-29 00:00", "Fri 2036-02-29 00:00"]),
        ("0 0 13 * 5", ["Fri 2026-11-27 00:00", "Fri 2026-12-04 00:00", "Fri 2026-12-11 00:00"]),
        ("0 0 */2 * 1", ["Mon 2026-11-23 00:00", "Mon 2026-12-07 00:00", "Mon 2026-12-21 00:00"]),
        ("0 12 * * 7", ["Sun 2026-11-22 12:00", "Sun 2026-11-29 12:00", "Sun 2026-12-06 12:00"]),
        ("0 0 29 2 */7", ["Sun 2032-02-29 00:00", "Sun 2060-02-29 00:00", "Sun 2088-02-29 00:00"]),
        ("0 0 */7 */12 */7", ["Sun 2034-01-01 00:00", "Sun 2034-01-08 00:00", "Sun 2034-01-15 00:00"]),
        ("@daily", ["Mon 2026-11-23 00:00", "Tue 2026-11-24 00:00", "Wed 2026-11-25 00:00"]),
    ],
)
def test_times(text: str, expected: list[str]) -> None:
    assert first(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("60 * * * *", "'60' is no minute"),
        ("* 24 * * *", "'24' is no hour"),
        ("* * 0 * *", "'0' is no day of month"),
        ("* * * 13 *", "'13' is no month"),
        ("* * * * 8", "'8' is no day of week"),
        ("* * * *", "there are 4 fields, not five"),
        ("* * * * * *", "quotation marks"),
        ("5-1 * * * *", "nothing lies in it"),
        ("*/0 * * * *", "nothing lies in it"),
        ("5/10 * * * *", "a step goes with"),
        ("a * * * *", "'a' is no minute"),
        ("1,,2 * * * *", "'' is no minute"),
        ("0 0 31 2 *", "never comes"),
        ("@reboot", "not known"),
        ("", "0 fields"),
    ],
)
def test_wrong_expressions(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        CronExpression.parse(text)


def field(least: int, most: int) -> st.SearchStrategy[str]:
    value = st.integers(least, most)
    pair = st.tuples(value, value).map(sorted)
    return st.one_of(
        st.just("*"),
        st.integers(1, 20).map("*/{}".format),
        st.lists(st.one_of(value.map(str), pair.map(lambda ends: f"{ends[0]}-{ends[1]}")), min_size=1, max_size=3).map(
            ",".join
        ),
    )


EXPRESSIONS = st.builds(
    " ".join, st.tuples(field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 7))
)  # to day 28: always some day


@settings(max_examples=100, deadline=None)
@given(EXPRESSIONS, st.datetimes(datetime(2024, 1, 1), datetime(2027, 1, 1)))
def test_every_time_matches_and_none_is_left_out(text: str, start: datetime) -> None:
    expression = CronExpression.parse(text)
    times = list(itertools.islice(expression.after(start), 5))
    words = text.split()

    def matches(moment: datetime) -> bool:
        """The definition in crontab(5), minute by minute."""

        def within(word: str, value: int, least: int) -> bool:
            for part in word.split(","):
                span, _, step = part.partition("/")
                if span == "*":
                    if (value - least) % int(step or 1) == 0:
                        return True
                    continue
                low, _, high = span.partition("-")
                if int(low) <= value <= int(high or low):
                    return True
            return False

        weekday = moment.isoweekday() % 7
        in_week = within(words[4], weekday, 0) or (
            weekday == 0 and words[4] != "*" and "/" not in words[4] and within(words[4], 7, 0)
        )
        in_month = within(words[2], moment.day, 1)
        restricted = not words[2].startswith("*") and not words[4].startswith("*")
        day = (in_week or in_month) if restricted else (in_week and in_month)
        return (
            day
            and within(words[0], moment.minute, 0)
            and within(words[1], moment.hour, 0)
            and within(words[3], moment.month, 1)
        )

    assert all(matches(time) and time > start for time in times)
    moment = (start + timedelta(minutes=1)).replace(second=0, microsecond=0)
    for _ in range(2000):
        if moment == times[0]:
            break
        assert not matches(moment), moment
        moment += timedelta(minutes=1)


@settings(max_examples=15, deadline=None)
@given(EXPRESSIONS, st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)))
def test_systemd_means_the_same(text: str, start: datetime) -> None:
    expression = CronExpression.parse(text)
    ours = [time.strftime("%Y-%m-%d %H:%M:%S") for time in itertools.islice(expression.after(start), 4)]
    command = ["systemd-analyze", "calendar", "--iterations=4", f"--base-time={start:%Y-%m-%d %H:%M:%S} UTC"]
    done = subprocess.run(
        [*command, *expression.on_calendar()],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        env={"TZ": "UTC", "PATH": "/usr/bin:/bin"},
    )
    theirs = set()
    for line in done.stdout.splitlines():
        label, _, value = line.partition(": ")
        if label.strip().startswith(("Next elapse", "Iteration", "Iter.")):
            theirs.add(" ".join(value.split()[1:3]))
    assert sorted(theirs)[:4] == ours
