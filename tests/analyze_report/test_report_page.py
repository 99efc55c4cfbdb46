"""Reports, opened in a real browser: drawn, sorted, filtered, quiet, and deaf to what names in the trace say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from netrec import cli
from tests.analyze.traces import everyday, flow, health, write
from tests.support.analysis_traces import write_trace
from tests.support.browser import Browser
from tests.support.gauge_traces import write_gauges

EVIL = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>'\">]]>{{7*7}}"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Reports of a trace full of hostile names, and of traces with a row and with none."""
    folder = tmp_path_factory.mktemp("reports")
    hostile = {"process_name": EVIL, "server_name": EVIL, "client_name": EVIL, "container_id": EVIL, "http_path": EVIL}
    rows = [
        flow(number, number, number + 1 + number / 10, **hostile, server_bytes=number * 1000, http_host=EVIL)
        | {"client_address": f"10.0.0.{number % 9}", "tcp_close": "connect_failed" if number % 5 == 0 else "fin"}
        for number in range(1, 60)
    ]
    write(folder / "hostile", "flows", rows)
    write(folder / "hostile", "health", [health(0, 30), health(30, 40, kind="gap", reason=EVIL)])
    write(folder / "one", "flows", [flow(1, 1, 2)])
    write(folder / "none", "flows", [])
    found = {}
    for name in ("hostile", "one", "none"):
        found[name] = folder / f"{name}.html"
        report("overview", folder / name, "-o", found[name])
    for name in ("compare", "incident", "capacity", "security"):
        found[name] = folder / f"{name}.html"
        given = [folder / "hostile", *([folder / "hostile"] if name == "compare" else []), "-o", found[name]]
        report(name, *given)
    steady = 500 + 3.0 * np.arange(60) + np.random.default_rng(4).normal(0, 8, 60)
    write_gauges(folder / "history", {EVIL: (steady, 950.0)})
    write_trace(folder / "steady", flows=8_000, seconds=90.0)
    found["fan"], found["forest"] = folder / "fan.html", folder / "forest.html"
    report("capacity", folder / "history", "-o", found["fan"])
    report("compare", folder / "steady", folder / "steady", "-o", found["forest"])
    found["query"] = folder / "query.html"
    run("analyze", "top-talkers", folder / "hostile", "--by", "process", "-o", found["query"])
    return found


def report(*arguments: object) -> None:
    run("report", *arguments)


def run(*arguments: object) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([str(argument) for argument in arguments])
    assert ended.value.code in (0, 1, 3), arguments


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


NAMES = ("hostile", "one", "none", "compare", "incident", "capacity", "security", "query", "fan", "forest")


@pytest.mark.parametrize("name", NAMES)
def test_it_opens_without_a_complaint_and_runs_nothing_of_the_trace(
    name: str, pages: dict[str, Path], browser: Browser
) -> None:
    browser.console()
    browser.open(pages[name])
    assert browser.console() == []
    assert "taken" not in browser.run("return document.title")
    assert browser.run("return document.querySelectorAll('main img, main script').length") == 0
    assert browser.run("return performance.getEntriesByType('resource').length") == 0
    text = pages[name].read_text()
    assert "http://" not in text.replace("http://www.w3.org", "") and "https://" not in text


def test_charts_have_their_values_on_hover_and_every_section_its_query(
    pages: dict[str, Path], browser: Browser
) -> None:
    browser.open(pages["hostile"])
    sections = browser.run("return document.querySelectorAll('main section').length")
    assert sections > 10
    assert browser.run("return document.querySelectorAll('svg.chart').length") > 8
    assert browser.run("return document.querySelectorAll('svg.chart title').length") > 50
    made = "return [...document.querySelectorAll('main section')].filter(s => s.querySelector('details pre')).length"
    assert browser.run(made) == sections
    assert EVIL in browser.run("return document.querySelector('#top-talkers, #process-totals').parentNode.textContent")


def test_an_analysis_is_drawn_and_each_of_its_sections_has_its_query(pages: dict[str, Path], browser: Browser) -> None:
    titles = "return [...document.querySelectorAll('#{} figcaption')].map(c => c.textContent)"
    browser.open(pages["fan"])
    drawn = browser.run(titles.replace("{}", "resources"))
    assert drawn[0].endswith("daily peak against its limit") and drawn[1] == "Peak as a share of the limit"
    assert browser.run("return document.querySelectorAll('#resources polygon, #resources line.limit').length") == 2
    browser.open(pages["forest"])
    assert browser.run("return document.querySelectorAll('#metrics rect.calm').length") > 3
    assert len(browser.run(titles.replace("{}", "distributions"))) == 2
    sections = (
        "return [...document.querySelectorAll('main section')].map(s => [s.id, !!s.querySelector('details pre')])"
    )
    for name in ("fan", "forest"):
        browser.open(pages[name])
        assert all(made for _, made in browser.run(sections)), name


def test_a_table_sorts_by_number_and_filters(pages: dict[str, Path], browser: Browser) -> None:
    browser.open(pages["hostile"])
    values = (
        "const t = document.querySelector('#top-talkers table');"
        "const at = [...t.tHead.rows[0].cells].findIndex(c => c.textContent === 'bytes');"
        "{} return [...t.tBodies[0].rows].filter(r => !r.hidden).map(r => Number(r.cells[at].dataset.v))"
    )
    click = "t.tHead.rows[0].cells[at].querySelector('button').click();"
    down = browser.run(values.replace("{}", click))
    up = browser.run(values.replace("{}", click))
    assert down == sorted(down, reverse=True) and up == sorted(up) and down != up
    shown = browser.run(
        values.replace(
            "{}",
            "const i = t.closest('section').querySelector('input.filter'); i.value = '10.0.0.3';"
            "i.dispatchEvent(new Event('input'));",
        )
    )
    assert len(shown) == 1


def test_it_fits_a_phone(pages: dict[str, Path], browser: Browser) -> None:
    browser.resize(390, 800, mobile=True)
    browser.open(pages["hostile"])
    assert browser.run("return document.documentElement.scrollWidth") <= 390
    browser.resize(1200, 900)


def test_light_and_dark_differ_and_without_scripting_all_is_there(pages: dict[str, Path], tmp_path: Path) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    with Browser(tmp_path / "dark", dark=True, scripting=False) as dark:
        dark.open(pages["hostile"])
        assert dark.run("return document.querySelectorAll('th button, input.filter').length") == 0
        assert dark.run("return document.querySelectorAll('#top-talkers tbody tr').length") == 9
        assert dark.run("return document.querySelector('#timeline svg').getBoundingClientRect().height") > 100
        in_the_dark = dark.run(ground)
    with Browser(tmp_path / "light") as light:
        light.open(pages["hostile"])
        assert light.run("return document.querySelectorAll('th button').length") > 0
        assert light.run(ground) != in_the_dark


def test_the_policy_stops_a_script_that_was_put_in(pages: dict[str, Path], browser: Browser, tmp_path: Path) -> None:
    tampered = tmp_path / "tampered.html"
    tampered.write_text(pages["one"].read_text().replace("<main>", "<main><script>document.title='taken'</script>"))
    browser.open(tampered)
    assert browser.run("return document.title") != "taken"
    assert any("Content Security Policy" in message for _, message in browser.console())


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = everyday(tmp_path / "trace")
    with pytest.raises(SystemExit) as ended:
        cli.main(["report", "overview", str(trace), "-o", str(tmp_path / "nowhere" / "r.html")])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and "cannot write" in said and said.count("\n") == 1
    assert not (tmp_path / "nowhere").exists()
