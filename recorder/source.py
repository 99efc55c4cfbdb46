"""The Source protocol, and the discovery of the sources under `recorder/sources/`.

A source is a folder with an `__init__.py` that defines `SOURCE`, a `SourceSpecification` (or `SOURCES`, several that
share their code). That file must be
cheap to import: it names the settings, tells whether the source can run here, and imports the rest on demand.
A new source is one folder; nothing else changes.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import recorder.sources
from netrec.errors import UsageError


@dataclass(frozen=True)
class Setting:
    """One setting of a source: an option of `netrec record`, a key of the configuration file, a NETREC_ variable.

    `parse` turns the user's text into the value and raises `ValueError` with what is wrong in words.
    A flag has `parse=bool` and a bool default. `repeatable` settings have tuple values. When the system's configuration
    file sets a `system` setting, nothing else may.
    """

    name: str
    default: Any
    help: str
    parse: Callable[[str], Any] = str
    metavar: str = ""
    repeatable: bool = False
    system: bool = False


@dataclass(frozen=True)
class Readiness:
    """Whether a source can run on this host: `reason` says why not, `fix` is the one command that helps."""

    ready: bool
    reason: str = ""
    fix: str = ""


@dataclass
class SourceHealth:
    """What a source has to say about the interval since it was last asked; added up into the `health` table.

    The names are those of the health table's fields; a counter that the source does not have stays 0 and a
    gauge None. `notes` are sentences about what was out of the ordinary: for whoever watches, and for `reason`.
    """

    events_seen: int = 0
    lost_in_ring: int = 0
    lost_in_map: int = 0
    lost_in_kernel: int = 0
    owners_known: int = 0
    map_used: int | None = None
    map_limit: int | None = None
    ring_used: int | None = None
    ring_limit: int | None = None
    programs_cpu_us: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def events_lost(self) -> int:
        """Flow records lost inside the source, wherever it happened."""
        return self.lost_in_ring + self.lost_in_map + self.lost_in_kernel


@dataclass(frozen=True)
class Effort:
    """How much is to be done, from now on: what the user asked for, or less when that costs too much.

    `sampling`: 1 in so many flows is recorded, whole; `active_timeout` in seconds; `together`: short flows that are
    alike may share a row. `read_seconds` and `poll_seconds` are how often sources are read and, as a rule, polled.
    """

    sampling: int = 1
    active_timeout: float = 10.0
    together: bool = False
    read_seconds: float = 1.0
    poll_seconds: float = 0.1


@dataclass(frozen=True)
class CaptureContext:
    """What the pipeline tells a source when it starts it.

    `settings` holds the common settings of `netrec record` (duration in seconds, active_timeout in seconds,
    ring_size in bytes, max_flows, filter, ...) and the source's own, by name. `host` is the observer's name.
    The pipeline judges every row by the filter; a source uses it to leave things out early, where that saves work.
    """

    host: str
    capture: str
    settings: Mapping[str, Any] = field(default_factory=dict)


class Source(Protocol):
    """A running source. The pipeline calls from one thread only: start, then poll and read in turn, then stop.

    `poll` is called about every 100 ms and must be cheap (empty the ring into memory); it returns True when the
    source wants to be polled again at once. A source that does not need it that often also has `patience() -> float |
    None`: the seconds until it must be polled again (it is before every `read`, too; None: as others), and may have
    `wakes() -> Collection[int]`, known after start: descriptors that become readable when it must be polled at once.
    `read` is called about once a second (less often within a budget): what
    came since, as pairs
    (table name, record batch with the schema of `netrec.trace.tables`); it may be empty. `stop` ends the recording
    and returns what
    is still to be written, with flow_end_reason `forced` for the flows that are still open; after it, nothing
    that the source put in place exists any more. `close` is the same without the rows: it is called when
    something went wrong, must never raise, and may follow stop.

    A source that can do less also has `adjust(effort: Effort)`: called before start, and whenever the effort changes;
    it then samples by itself. Of the others every row is made, and the pipeline samples the rows.

    A source whose tables are not built in also has `definitions() -> Mapping[str, Any]`: by name, as
    `netrec.trace.definition` describes them; known before start.

    A source that needs capabilities(7) while it records also has `capabilities() -> Collection[str]`: their names
    (`net_admin`), asked for when all sources have started. Every other one is given up then, also for what is started
    later; a process that a source has started before gives them up by itself.

    A source that is a proxy also has `relays() -> Collection[int]`: the ids of the processes whose sockets carry the
    traffic of its rows on, so that other sources' rows of them count as duplicates. One that learns what addresses are
    called also has `names() -> tuple[NameTable, int] | None` (recorder.dns.names), for the rows of all sources, and the
    microseconds from the table's clock to UTC.

    A source without a ring or a map in the kernel may have `losses`: by counter of `SourceHealth` (`lost_in_ring`),
    what it means there, as a clause after "lost because".
    """

    def start(self) -> None: ...

    def poll(self) -> bool: ...

    def read(self) -> Iterable[tuple[str, Any]]: ...

    def health(self) -> SourceHealth: ...

    def stop(self) -> Iterable[tuple[str, Any]]: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class SourceSpecification:
    """A source as `netrec record` and `netrec doctor` see it before it runs.

    `tables` are those that it can fill; `recorded` gives those that it does fill with these settings, where that
    depends on them. `can_run` looks at this host (no settings: in general; with settings:
    exactly this capture) and never raises. `implied_by` names the setting of its own that asks for this source without
    --source. `create` makes the source; it may raise `CannotRecordError`.
    `filters` are the terms of a --filter that can be true of its rows: "all" of them, those of "addresses" (hosts,
    nets, ports, protocols) but no owners, or "none", because it has no flows.
    `first_question` is the netrec command that answers what is asked first of its rows.
    `explain` is for sources that change something on the host: for `--dry-run`, all that they would put in place,
    as text (it may raise as `create` does).
    """

    name: str
    summary: str
    tables: tuple[str, ...]
    can_run: Callable[[Mapping[str, Any]], Readiness]
    create: Callable[[CaptureContext], Source]
    settings: tuple[Setting, ...] = ()
    filters: Literal["all", "addresses", "none"] = "all"
    explain: Callable[[Mapping[str, Any]], str] | None = None
    recorded: Callable[[Mapping[str, Any]], tuple[str, ...]] | None = None
    implied_by: str = ""
    first_question: str = "analyze top-talkers"

    def recorded_tables(self, settings: Mapping[str, Any]) -> tuple[str, ...]:
        """The tables that a capture with these settings records, whether or not anything happens."""
        return self.recorded(settings) if self.recorded else self.tables


def discover() -> dict[str, SourceSpecification]:
    """Every source, by name, sorted. A folder without `SOURCE` is a programming error and raises."""
    found: dict[str, SourceSpecification] = {}
    for module in pkgutil.iter_modules(recorder.sources.__path__):
        if module.ispkg:
            package = importlib.import_module(f"recorder.sources.{module.name}")
            for specification in getattr(package, "SOURCES", None) or (package.SOURCE,):
                found[specification.name] = specification
    return dict(sorted(found.items()))


def find(name: str) -> SourceSpecification:
    """The source of that name; raises `UsageError` that lists the known ones."""
    sources = discover()
    if name not in sources:
        raise UsageError(f"unknown source {name!r}", f"the sources are {', '.join(sources)}")
    return sources[name]
