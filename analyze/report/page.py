"""Parts -> one self-contained HTML file.

The policy of the page forbids everything but its own style and its own script (both by their hashes): no network, no
other script, whatever a name in the trace says. Every text goes through `escape`.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from analyze.render.svg import DARK, LIGHT, STYLE
from analyze.render.svg_parts import escape
from netrec import __version__

_FOLDER = Path(__file__).parent
MOST_ROWS = 1000
LONG_TEXT = 42  # characters: a longer text is broken into lines


@dataclass(frozen=True)
class Cell:
    """What a cell shows, and what it sorts by (numbers as they are; empty: by its text)."""

    text: str
    sort: str = ""


@dataclass(frozen=True)
class Table:
    """`headings` are (name, meaning, whether it is a number)."""

    headings: Sequence[tuple[str, str, bool]]
    rows: Sequence[Sequence[Cell]]
    left_out: int = 0


@dataclass(frozen=True)
class Part:
    """A section: `figures` are (title, `<svg>` element), `source` the SQL, `command` the line that gives it anew."""

    name: str
    title: str
    figures: Sequence[tuple[str, str]] = ()
    table: Table | None = None
    empty: str = ""
    notes: Sequence[str] = ()
    source: str = ""
    command: str = ""


@dataclass(frozen=True)
class Page:
    """`facts` are (label, value) pairs on top; `state` colours the sentence: fine, finding, open or nothing."""

    title: str
    sentence: str = ""
    state: str = ""
    facts: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()
    parts: Sequence[Part] = ()
    sources: Sequence[str] = field(default_factory=tuple)
    command: str = ""


def render(page: Page) -> str:
    """The whole file."""
    style = (
        _FOLDER / "page.css"
    ).read_text() + f"{STYLE}{LIGHT}@media screen and (prefers-color-scheme:dark){{{DARK}}}"
    script = (_FOLDER / "page.js").read_text()
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    )
    contents = "".join(f'<a href="#{escape(part.name)}">{escape(part.title)}</a>' for part in page.parts)
    made = f"netrec {__version__}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'
        f"<title>{escape(page.title)}</title><style>{style}</style></head>\n<body><header>"
        f"<p class=brand>netrec</p><h1>{escape(page.title)}</h1>{_sentence(page)}{_facts(page)}{_notes(page.notes)}"
        + (f"<nav>{contents}</nav>" if len(page.parts) > 1 else "")
        + "</header>\n<main>"
        + "".join(_part(part) for part in page.parts)
        + _sources(page)
        + f"</main>\n<footer>{escape(made)}</footer>\n<script>{script}</script></body></html>\n"
    )


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def _sentence(page: Page) -> str:
    return f'<p class="sentence {escape(page.state)}">{escape(page.sentence)}</p>' if page.sentence else ""


def _facts(page: Page) -> str:
    if not page.facts:
        return ""
    items = "".join(f"<div><dt>{escape(label)}</dt><dd>{escape(value)}</dd></div>" for label, value in page.facts)
    return f"<dl class=facts>{items}</dl>"


def _notes(notes: Sequence[str]) -> str:
    return "".join(f"<p class=note>{escape(note)}</p>" for note in notes)


def _part(part: Part) -> str:
    body = "".join(
        "<figure>" + (f"<figcaption>{escape(title)}</figcaption>" if title else "") + f"{drawn}</figure>"
        for title, drawn in part.figures
    )
    if part.table is not None and part.table.rows:
        body += _table(part.table)
    elif part.empty or part.table is not None:
        body += f"<p class=empty>{escape(part.empty or 'no rows')}</p>"
    made = ""
    if part.source or part.command:
        command = f"<p>Again:</p><pre>{escape(part.command)}</pre>" if part.command else ""
        source = f"<p>Query:</p><pre>{escape(part.source.strip())}</pre>" if part.source else ""
        made = f"<details><summary>How this was made</summary>{command}{source}</details>"
    return (
        f'<section id="{escape(part.name)}"><h2>{escape(part.title)}</h2>{body}{_notes(part.notes)}{made}</section>\n'
    )


def _table(table: Table) -> str:
    heads = "".join(
        f'<th scope="col" title="{escape(meaning)}"{" class=n" if number else ""}>{escape(name)}</th>'
        for name, meaning, number in table.headings
    )
    kinds = [" class=n" if number else "" for _, _, number in table.headings]
    rows = []
    for row in table.rows:
        cells = "".join(
            f"<td{kind or _wide(cell)}{_sort(cell)}>{escape(cell.text)}</td>"
            for kind, cell in zip(kinds, row, strict=True)
        )
        rows.append(f"<tr>{cells}</tr>")
    more = f"<p class=note>{table.left_out:,} more rows are not in this file.</p>" if table.left_out else ""
    return f"<div class=scroll><table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>{more}"


def _wide(cell: Cell) -> str:
    return " class=w" if len(cell.text) > LONG_TEXT else ""


def _sort(cell: Cell) -> str:
    return f' data-v="{escape(cell.sort)}"' if cell.sort else ""


def _sources(page: Page) -> str:
    if not page.sources and not page.command:
        return ""
    command = f"<p>Again:</p><pre>{escape(page.command)}</pre>" if page.command else ""
    queries = "".join(f"<pre>{escape(sql.strip())}</pre>" for sql in page.sources)
    count = f" ({len(page.sources)} queries)" if page.sources else ""
    return (
        '<section id="how"><h2>How this was made</h2>'
        f"<details><summary>Command{count}</summary>{command}{queries}</details></section>"
    )
