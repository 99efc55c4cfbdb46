"""Cron expressions as Debian's cron reads them (crontab(5)): five fields, or @hourly and the like."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
# name, least, most, names of the values from the least on
_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 7, _DAYS),
)
_NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_SEARCH_DAYS = 366 * 41  # from a 29 February that is a Sunday to the next, over a century


@dataclass(frozen=True)
class CronExpression:
    """The values of each field that are due; `text` as it was given. Times are local, without a zone, as cron's are."""

    text: str
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]  # 0: Sunday
    either_day: bool  # day of month and day of week are both restricted: one of them is enough

    @classmethod
    def parse(cls, text: str) -> CronExpression:
        """Raises `ValueError` that says which field is wrong."""
        given = _NICKNAMES.get(text.strip().lower(), text)
        if given.startswith("@"):
            raise ValueError(f"{text!r} is not known: write one of {', '.join(_NICKNAMES)} or five fields")
        words = given.split()
        if len(words) != 5:
            names = ", ".join(name for name, *_ in _FIELDS)
            quote = " (is it in quotation marks?)" if len(words) > 5 else ""
            raise ValueError(f"there are {len(words)} fields{quote}, not five: {names}")
        minutes, hours, days, months, weekdays = (
            _field(word, *field) for word, field in zip(words, _FIELDS, strict=True)
        )
        either = not words[2].startswith("*") and not words[4].startswith("*")
        weekdays = tuple(sorted({day % 7 for day in weekdays}))
        found = cls(text.strip(), minutes, hours, days, months, weekdays, either)
        if next(found.after(datetime(2000, 1, 1)), None) is None:
            raise ValueError(f"{text!r} never comes: there is no such day")
        return found

    def due_on(self, day: datetime) -> bool:
        """Whether some time of this day is due."""
        in_month = day.day in self.days
        in_week = day.isoweekday() % 7 in self.weekdays
        return day.month in self.months and ((in_month or in_week) if self.either_day else (in_month and in_week))

    def after(self, moment: datetime) -> Iterator[datetime]:
        """The times due later than `moment` (local, without zone), in order; ends when 41 years bring none.

        Times that the clock leaves out when summer time begins are not among them.
        """
        day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
        last = day
        while day - last < timedelta(days=_SEARCH_DAYS):
            if self.due_on(day):
                for hour in self.hours:
                    for minute in self.minutes:
                        time = day.replace(hour=hour, minute=minute)
                        if time > moment and _exists(time):
                            last = day
                            yield time
            day += timedelta(days=1)

    def on_calendar(self) -> list[str]:
        """The same times as systemd.time(7) OnCalendar expressions; more than one where either day is enough."""
        months, days = (_listed(values, 1, most, 2) for values, most in ((self.months, 12), (self.days, 31)))
        hours, minutes = (_listed(values, 0, most, 2) for values, most in ((self.hours, 23), (self.minutes, 59)))
        names = ",".join(_DAYS[day].capitalize() for day in self.weekdays) + " " if len(self.weekdays) < 7 else ""
        time = f"{hours}:{minutes}:00"
        if self.either_day:
            return [f"*-{months}-{days} {time}", f"{names}*-{months}-* {time}"]
        return [f"{names}*-{months}-{days} {time}"]


def _exists(time: datetime) -> bool:
    return datetime.fromtimestamp(time.timestamp()) == time


def _listed(values: tuple[int, ...], least: int, most: int, width: int) -> str:
    return "*" if len(values) == most - least + 1 else ",".join(f"{value:0{width}}" for value in values)


def _field(word: str, name: str, least: int, most: int, names: tuple[str, ...]) -> tuple[int, ...]:
    found: set[int] = set()
    for part in word.lower().split(","):
        match = re.fullmatch(r"(\*|([0-9a-z]+)(?:-([0-9a-z]+))?)(?:/([0-9]+))?", part)
        if not match:
            raise ValueError(f"{part!r} is no {name}: write for example *, 5, 1-5, */15 or 0,30")
        if match[1] == "*":
            # Sunday is 0 and 7: once is enough.
            first, last = least, min(most, 6) if name == "day of week" else most
        else:
            first = _value(match[2], name, least, most, names)
            last = _value(match[3], name, least, most, names) if match[3] else first
            if match[4] and not match[3]:
                raise ValueError(f"{part!r} is no {name}: a step goes with * or a range, as in */15 or 10-50/10")
        step = int(match[4] or 1)
        if first > last or step < 1:
            raise ValueError(f"{part!r} is no {name}: nothing lies in it")
        found.update(range(first, last + 1, step))
    return tuple(sorted(found))


def _value(word: str, name: str, least: int, most: int, names: tuple[str, ...]) -> int:
    if word in names:
        return names.index(word) + least
    if not word.isdigit() or not least <= int(word) <= most:
        raise ValueError(f"{word!r} is no {name}: it goes from {least} to {most}")
    return int(word)
