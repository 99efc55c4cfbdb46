"""The settings of `netrec record`: where each may come from, and which one is in force.

    command line > NETREC_* environment > --config file > $XDG_CONFIG_HOME/netrec/config.toml >
    /etc/netrec/config.toml > default

Of settings that are the host's to decide (`Setting.system`), /etc/netrec/config.toml has the only word when it says
anything.

A file holds them in its table [record], named as the options without their dashes. A name that nothing knows
is refused with the nearest one that exists.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netrec.errors import UsageError
from netrec.filter import Filter
from netrec.text import parse_duration, parse_size
from recorder.retention import DEFAULT_FREE, MinimumFree
from recorder.source import Setting

TABLE = "record"
PREFIX = "NETREC_"
SYSTEM_FILE = Path("/etc/netrec/config.toml")


def _rotate_interval(text: str) -> float:
    seconds = parse_duration(text)
    if seconds > 3600:
        raise ValueError(f"{text!r} is longer than an hour, and no file spans two hours; write 1h or less")
    if seconds < 1:
        raise ValueError(f"{text!r} is shorter than a second; write 1s or more")
    return seconds


def _active_timeout(text: str) -> float:
    seconds = parse_duration(text)
    if seconds < 1:
        raise ValueError(f"{text!r} is shorter than a second; write 1s or more")
    return seconds


def _whole(text: str) -> int:
    if not text.strip().isdecimal() or int(text) == 0:
        raise ValueError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _sample(text: str) -> int:
    one, slash, number = text.partition("/")
    if one.strip() != "1" or not slash or not number.strip().isdecimal() or not 1 <= int(number) <= 1_000_000:
        raise ValueError(f"{text!r} is not a sample of flows such as 1/16 (at most 1/1000000)")
    return int(number)


def _share(text: str) -> float:
    number, percent, rest = text.partition("%")
    try:
        share = float(number) / 100
    except ValueError:
        share = 0.0
    if not percent or rest or not 0.001 <= share <= 64:
        raise ValueError(f"{text!r} is not a share of one core such as 2% (0.1% at least)")
    return share


def _rate(text: str) -> int:
    size, slash, unit = text.partition("/")
    if slash and unit != "s":
        raise ValueError(f"{text!r} is not a rate such as 1MB/s")
    return parse_size(size)


def _ring_size(text: str) -> int:
    size = parse_size(text)
    if not 4096 <= size <= 2**30:
        raise ValueError(f"{text!r} is not between 4KiB and 1GiB")
    return size


COMMON = (
    Setting("duration", None, "How long to record (default: until stopped).", parse_duration, "TIME"),
    Setting("output", Path("trace"), "Trace folder; made if it does not exist.", Path, "DIR"),
    Setting("source", ("ebpf",), "Sources to record from; several with commas or by repeating.", str, "NAME", True),
    Setting(
        "rotate-interval",
        300.0,
        "Finish files at multiples of this within the UTC hour; at most 1h.",
        _rotate_interval,
        "TIME",
    ),
    Setting(
        "rotate-size",
        256_000_000,
        "Finish files that have come to about this size as Parquet, as estimated from the spool.",
        parse_size,
        "SIZE",
    ),
    Setting("keep-age", None, "Delete this host's finished files that are older.", parse_duration, "TIME"),
    Setting("keep-size", None, "Delete this host's oldest finished files beyond this total.", parse_size, "SIZE"),
    Setting(
        "min-free",
        DEFAULT_FREE,
        "Write nothing while less than this is free on the disk: a size or a percentage.",
        MinimumFree.parse,
        "SIZE|N%",
    ),
    Setting(
        "filter",
        None,
        "Record what matches only: a tcpdump expression, with owners (see docs/filter.md).",
        Filter.read,
        "EXPR",
    ),
    Setting("active-timeout", 10.0, "A flow that lives on gives one row per this time.", _active_timeout, "TIME"),
    Setting("ring-size", 8 << 20, "Size of the buffer between kernel and recorder.", _ring_size, "SIZE"),
    Setting("max-flows", 131_072, "Flows that the kernel's map can hold at once.", _whole, "N"),
    Setting(
        "sample",
        None,
        "Record 1 in N flows, whole, chosen by a hash of its addresses and ports; analyses scale up and say so.",
        _sample,
        "1/N",
    ),
    Setting(
        "max-cpu",
        None,
        "Take at most this share of one core, programs in the kernel included; do less when it would be more.",
        _share,
        "N%",
    ),
    Setting("max-memory", None, "Do less when the recorder's memory grows beyond this.", parse_size, "SIZE"),
    Setting("max-disk-rate", None, "Do less when more than this is written a second.", _rate, "SIZE/s"),
    Setting("host", "", "Name of this host in the trace (default: its host name).", str, "NAME"),
    Setting("quiet", False, "Say nothing but errors.", bool),
    Setting("json", False, "Progress as JSON lines on standard output, one per second.", bool),
)


@dataclass(frozen=True)
class Resolved:
    """A value in force, as the user would write it, and where it came from."""

    value: Any
    origin: str
    text: str


@dataclass(frozen=True)
class _Given:
    """What one place says: raw values by setting name, each with the words that name it in a message."""

    values: Mapping[str, tuple[Any, str]]
    origin: str


def key(name: str) -> str:
    """A setting's name as Python and the environment write it: `rotate-interval` -> `rotate_interval`."""
    return name.replace("-", "_")


def resolve(
    settings: Sequence[Setting],
    command_line: Mapping[str, Any],
    config: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> dict[str, Resolved]:
    """Every setting's value in force, by name with underscores.

    `command_line` holds what was given there, by the same names; raises `UsageError` that names the place of
    an unusable value or an unknown name.
    """
    environment = os.environ if environment is None else environment
    known = {key(setting.name): setting for setting in settings}
    places = [
        _Given({name: (value, f"--{known[name].name}") for name, value in command_line.items()}, "command line"),
        _environment(known, environment),
        *(_file(path, known, required) for path, required in config_files(config, environment)),
    ]
    resolved = {}
    for name, setting in known.items():
        if setting.system:
            _refuse_override(setting, places)
        for place in places:
            if name in place.values:
                raw, where = place.values[name]
                value = _parse(setting, raw, where)
                resolved[name] = Resolved(value, place.origin, _text(raw))
                break
        else:
            resolved[name] = Resolved(setting.default, "default", _default_text(setting))
    return resolved


def _refuse_override(setting: Setting, places: Sequence[_Given]) -> None:
    saying = [place for place in places if key(setting.name) in place.values]
    own = [place for place in saying if place.origin == str(SYSTEM_FILE)]
    if own and saying[0] not in own:
        where = saying[0].values[key(setting.name)][1]
        raise UsageError(
            f"{where}: {SYSTEM_FILE} sets {setting.name} for this host, and nothing else may", f"leave {where} out"
        )


def system_file_readable() -> bool:
    """Whether what the host decides is known: its configuration file can be read, or there is none."""
    try:
        SYSTEM_FILE.open("rb").close()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def config_files(config: Path | None, environment: Mapping[str, str]) -> list[tuple[Path, bool]]:
    """The configuration files in the order of their precedence, and whether each must exist."""
    files = [(config, True)] if config else []
    home = environment.get("XDG_CONFIG_HOME") or (
        str(Path(environment["HOME"], ".config")) if environment.get("HOME") else ""
    )
    if home:
        files.append((Path(home, "netrec", "config.toml"), False))
    return [*files, (SYSTEM_FILE, False)]


def dump(resolved: Mapping[str, Resolved], settings: Sequence[Setting]) -> str:
    """What is in force and from where, as a configuration file that says the same."""
    lines = [f"[{TABLE}]"]
    entries = []
    for setting in settings:
        one = resolved[key(setting.name)]
        if one.text == "":
            entries.append((f"# {setting.name} is not set", one.origin))
        else:
            entries.append((f"{setting.name} = {one.text}", one.origin))
    width = max(len(entry) for entry, _ in entries)
    lines += [f"{entry:<{width}}  # {origin}" for entry, origin in entries]
    return "\n".join(lines)


def _environment(known: Mapping[str, Setting], environment: Mapping[str, str]) -> _Given:
    values: dict[str, tuple[Any, str]] = {}
    for variable, text in environment.items():
        if not variable.startswith(PREFIX):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name in known:
            values[name] = (text, variable)
            continue
        # Other parts of netrec have variables of their own; only a slip of the pen is refused.
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
        if near:
            raise UsageError(f"unknown variable {variable}", f"did you mean {PREFIX}{near[0].upper()}?")
    return _Given(values, "environment")


def _file(path: Path, known: Mapping[str, Setting], required: bool) -> _Given:
    try:
        content = tomllib.loads(path.read_text())
    except FileNotFoundError:
        if required:
            raise UsageError(f"--config {path} does not exist", "give a TOML file with a table [record]") from None
        return _Given({}, str(path))
    except PermissionError:
        if required:
            raise UsageError(f"--config {path} cannot be read", "check its permissions") from None
        return _Given({}, str(path))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise UsageError(f"{path} is not a TOML file ({problem})", "correct it, or remove it") from None
    for name in content:
        if name != TABLE:
            hint = f"the settings of netrec record stand under [{TABLE}]"
            raise UsageError(f"unknown key {name!r} in {path}", hint)
    table = content.get(TABLE, {})
    if not isinstance(table, dict):
        raise UsageError(f"{TABLE!r} in {path} is not a table", f"write [{TABLE}] above the settings")
    values: dict[str, tuple[Any, str]] = {}
    for name, value in table.items():
        if key(name) not in known:
            near = difflib.get_close_matches(key(name), known, n=1, cutoff=0.5)
            hint = f"did you mean {known[near[0]].name!r}?" if near else "netrec record --config-dump lists all"
            raise UsageError(f"unknown key {name!r} in {path}", hint)
        values[key(name)] = (value, f"{name} in {path}")
    return _Given(values, str(path))


def _parse(setting: Setting, raw: Any, where: str) -> Any:
    try:
        if setting.repeatable:
            parts = raw if isinstance(raw, list | tuple) else [raw]
            return tuple(
                setting.parse(part.strip()) for one in parts for part in _as_text(one).split(",") if part.strip()
            )
        if setting.parse is bool:
            return _flag(raw)
        return setting.parse(_as_text(raw))
    except ValueError as problem:
        raise UsageError(f"{where}: {problem}") from None


def _flag(raw: Any) -> bool:
    if isinstance(raw, bool):
        return raw
    words: dict[str, bool] = {"1": True, "true": True, "yes": True, "on": True}
    words |= {"0": False, "false": False, "no": False, "off": False, "": False}
    text = str(raw).strip().lower()
    if text not in words:
        raise ValueError(f"{raw!r} is neither true nor false")
    return words[text]


def _as_text(raw: Any) -> str:
    if isinstance(raw, bool | list | dict):
        raise ValueError(f"{raw!r} is not a text or number")
    return str(raw)


def _text(raw: Any) -> str:
    """A value as TOML would write it."""
    if isinstance(raw, bool):
        return "true" if raw else "false"
    if isinstance(raw, list | tuple):
        return "[" + ", ".join(_text(one) for one in raw) + "]"
    if isinstance(raw, int | float):
        return str(raw)
    escaped = str(raw).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _default_text(setting: Setting) -> str:
    """The default as the user would write it; empty when there is none."""
    default = setting.default
    if default is None or default == "" or default is DEFAULT_FREE or default == ():
        return ""
    return _text(default)
