"""`netrec compact`: the same answers from fewer files, whatever happens meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from analyze import compaction, files, scan
from netrec.trace import layout, metadata, storage, tables
from netrec.trace.writer import FileWriter
from tests.analyze.conftest import Answer
from tests.analyze.traces import CAPTURE, START, at, batch, everyday, flow, health, write

Netrec = Callable[..., Answer]
LATER = START + timedelta(days=1)
QUESTIONS = (
    ("analyze", "top-talkers"),
    ("analyze", "top-talkers", "--by", "process", "--order", "flows"),
    ("analyze", "timeline", "--bin", "15s"),
    ("analyze", "timeline", "--bin", "5s", "--since", "20:01:00", "--until", "20:02:30"),
    ("analyze", "summary"),
    ("analyze", "flows", "--sessions"),
    ("analyze", "losses"),
    ("analyze", "top-talkers", "--last", "1m"),
    ("analyze", "top-talkers", "--filter", "client_bytes > 1000"),
    ("sql", "select capture, count(*) as rows, sum(client_bytes) as bytes from flows group by all order by all"),
    ("sql", "select * exclude (capture) from health order by all"),
)


def minutes(folder: Path, count: int = 12, capture: str = CAPTURE, first: int = 0, **about: object) -> Path:
    """A capture that rotated every minute: short flows, one that spans the files, losses, and a last file."""
    for minute in range(count):
        start = 60.0 * minute
        last = minute == count - 1
        rows = [flow(100 * minute + n, start + n, start + n + 1, client_bytes=1000 + n) for n in range(20)]
        rows += [flow(7, start, start + 60, flow_end_reason="end" if last else "active", client_bytes=minute)]
        closed = "end" if last else "interval"
        given = {"opened": at(start), "capture": capture, "closed": closed, "sequence": first + minute}
        write(folder, "flows", rows, lost=minute, **given, **about)
        write(folder, "health", [health(start, start + 60, events_lost=minute)], lost=minute, **given, **about)
    return folder


def answers(netrec: Netrec, trace: Path, questions: Sequence[tuple[str, ...]] = QUESTIONS) -> list[str]:
    given = [netrec(*question, trace) for question in questions]
    assert all(answer.code == 0 and not answer.err for answer in given), given
    return [answer.out for answer in given]


def totals(netrec: Netrec, trace: Path) -> dict[str, object]:
    """What `inspect` says, without what is meant to change: files and their sizes."""
    report = json.loads(netrec("inspect", "--json", trace).out)
    for part in (*report["captures"], *report["tables"]):
        for changed in ("files", "size", "bytes_per_row"):
            part.pop(changed, None)
    return report


def names(trace: Path, table: str = "flows") -> list[str]:
    return sorted(path.name for path in (trace / table).rglob("*.parquet"))


def test_every_answer_stays_the_same(netrec: Netrec, tmp_path: Path) -> None:
    trace = minutes(everyday(tmp_path / "trace"), 12, "20261122T201000Zbbbbbb")
    before, known = answers(netrec, trace), totals(netrec, trace)
    done = netrec("compact", trace)
    assert done.code == 0
    assert "26 files" in done.out and "became 4" in done.out
    assert names(trace)[1] == "web-1-20261122T201000Zbbbbbb-000000_000011.parquet"
    assert answers(netrec, trace) == before
    assert totals(netrec, trace) == known
    verified = netrec("verify", trace)
    assert verified.code == 0 and "4 files" in verified.out and not verified.err
    assert not (trace / layout.COMPACT_FOLDER).exists()
    assert "nothing to merge" in netrec("compact", trace).out


def test_the_footer_tells_every_original(tmp_path: Path) -> None:
    trace = minutes(tmp_path / "trace", 3)
    originals = [
        metadata.decode_file(pq.read_metadata(path).metadata) for path in sorted(trace.rglob("flows/**/*.parquet"))
    ]
    list(compaction.compact(trace, 10**6, LATER))
    (path,) = (trace / "flows").rglob("*.parquet")
    about = metadata.decode_file(pq.read_metadata(path).metadata)
    assert about.originals == originals
    assert (about.rows, about.events_lost, about.opened, about.closed) == (63, 3, START.isoformat(), "end")
    assert path.stat().st_mode & 0o777 == next((trace / "health").rglob("*.parquet")).stat().st_mode & 0o777


def test_the_file_is_as_the_recorder_writes_them(tmp_path: Path) -> None:
    trace = minutes(tmp_path / "trace", 3)
    list(compaction.compact(trace, 10**6, LATER))
    (path,) = (trace / "flows").rglob("*.parquet")
    with pq.ParquetFile(path) as file:
        group = file.metadata.row_group(0)
        end = file.schema_arrow.names.index("end_time")
        assert group.sorting_columns[0].column_index == end
        assert group.column(end).statistics.has_min_max and group.column(end).has_column_index
        assert group.column(end).compression == "ZSTD"
        times = file.read(columns=["end_time"])["end_time"].to_pylist()
    assert times == sorted(times)


def test_merged_files_are_merged_again(netrec: Netrec, tmp_path: Path) -> None:
    trace = minutes(tmp_path / "trace")
    size = max(path.stat().st_size for path in (trace / "flows").rglob("*.parquet"))
    list(compaction.compact(trace, 4 * size, LATER))
    assert 3 <= len(names(trace)) <= 4
    before = answers(netrec, trace, QUESTIONS[-2:])
    list(compaction.compact(trace, 10**6, LATER))
    assert names(trace) == [f"web-1-{CAPTURE}-000000_000011.parquet"]
    assert answers(netrec, trace, QUESTIONS[-2:]) == before
    assert netrec("verify", trace).code == 0


def test_other_captures_hosts_hours_and_holes_stay_apart(netrec: Netrec, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    minutes(trace, 2)
    minutes(trace, 2, "20261122T200000Zcccccc")
    minutes(trace, 2, "20261122T200000Zdddddd", host="web-2")
    write(trace, "flows", [flow(1, 300, 301)], sequence=3, opened=at(300))  # 2 is missing
    write(trace, "flows", [flow(2, 3700, 3701)], sequence=4, opened=at(3700))
    # A file that says another thing of its capture than its neighbour.
    write(trace, "flows", [flow(3, 3800, 3801)], sequence=5, opened=at(3800), filter="port 443")
    holes = totals(netrec, trace)
    list(compaction.compact(trace, 10**6, LATER))
    assert names(trace) == sorted(
        [
            f"web-1-{CAPTURE}-000000_000001.parquet",
            f"web-1-{CAPTURE}-000003.parquet",
            f"web-1-{CAPTURE}-000004.parquet",
            f"web-1-{CAPTURE}-000005.parquet",
            "web-1-20261122T200000Zcccccc-000000_000001.parquet",
            "web-2-20261122T200000Zdddddd-000000_000001.parquet",
        ]
    )
    assert totals(netrec, trace) == holes
    assert "files 2 of" in netrec("verify", trace).out


def test_files_of_an_older_format_stay_of_it(netrec: Netrec, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    columns = [field.name for field in tables.FLOWS.fields if field.since == 1]
    for number in range(3):
        opened = at(60 * number)
        rows = [flow(number, 60 * number, 60 * number + 1)]
        write(trace, "flows", rows, sequence=number, opened=opened, columns=columns, format_version=1)
    before = netrec("analyze", "top-talkers", trace).out
    list(compaction.compact(trace, 10**6, LATER))
    (path,) = (trace / "flows").rglob("*.parquet")
    assert metadata.decode_file(pq.read_metadata(path).metadata).capture.format_version == 1
    assert netrec("analyze", "top-talkers", trace).out == before
    assert netrec("verify", trace).code == 0


def test_a_dry_run_changes_nothing_and_tells_the_same(netrec: Netrec, tmp_path: Path) -> None:
    trace = minutes(tmp_path / "trace")
    before = {path: path.stat().st_ino for path in trace.rglob("*")}
    planned = json.loads(netrec("compact", "--dry-run", "--json", trace).out)["tables"]
    assert {path: path.stat().st_ino for path in trace.rglob("*")} == before
    assert "would become 2" in netrec("compact", "--dry-run", trace).out
    done = json.loads(netrec("compact", "--json", trace).out)["tables"]
    for table, count in planned.items():
        assert count["size_after"] is None and 0 < done[table]["size_after"] < count["size"]
        assert {**count, "size_after": 0} == {**done[table], "size_after": 0}


def test_recent_hours_are_left_alone(netrec: Netrec, tmp_path: Path) -> None:
    trace = minutes(tmp_path / "trace", 2)
    now = datetime.now(UTC)
    for number in range(2):
        write(trace, "flows", [flow(1, 0, 1)], sequence=number, opened=now, capture="20991122T200000Zdddddd")
    assert "became" in netrec("compact", "--older-than", "0s", trace).out
    assert len([name for name in names(trace) if "Zdddddd" in name]) == 2
    age = datetime.now(UTC) - START
    again = minutes(tmp_path / "again", 2)
    assert "nothing to merge" in netrec("compact", "--older-than", f"{int(age.total_seconds())}s", again).out


@pytest.mark.parametrize("damage", ["truncated", "flipped", "renamed"])
def test_a_damaged_file_is_named_and_left_alone(netrec: Netrec, tmp_path: Path, damage: str) -> None:
    trace = minutes(tmp_path / "trace", 6)
    path = sorted((trace / "flows").rglob("*.parquet"))[2]
    whole = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "flipped":
        path.write_bytes(bytes(byte ^ 255 if 300 < place < 400 else byte for place, byte in enumerate(whole)))
    else:
        path.write_bytes(sorted((trace / "flows").rglob("*.parquet"))[3].read_bytes())
    damaged = path.read_bytes()
    done = netrec("compact", trace)
    assert done.code == 1
    assert done.err.count("skipped") == 1 and path.name in done.err and "Traceback" not in done.err
    assert path.read_bytes() == damaged
    assert names(trace) == [
        f"web-1-{CAPTURE}-{numbers}.parquet" for numbers in ("000000_000001", "000002", "000003_000005")
    ]
    assert len(names(trace, "health")) == 1
    assert not list(trace.rglob("*.partial"))


KILLED = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from analyze import compaction
step, count = int(sys.argv[2]), 0
def watch(event, arguments):
    global count
    if event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod"):
        count += 1
        if count == step:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
list(compaction.compact(Path(sys.argv[1]), 10**6, datetime(2030, 1, 1, tzinfo=UTC)))
"""


def test_a_kill_at_any_step_loses_and_doubles_nothing(netrec: Netrec, tmp_path: Path) -> None:
    """Killed before each thing that it does to a folder: making one, naming the file, removing what it replaces."""
    trace = minutes(tmp_path / "trace", 3)
    before, known = answers(netrec, trace, QUESTIONS[-2:]), totals(netrec, trace)
    seen = set()
    for step in range(1, 100):
        ended = subprocess.run([sys.executable, "-c", KILLED, str(trace), str(step)], check=False, timeout=60)
        verified = netrec("verify", trace)
        assert verified.code == 0, verified.out
        seen.add((len(names(trace)), len(names(trace, "health")), "is no part of the trace" in verified.err))
        assert answers(netrec, trace, QUESTIONS[-2:]) == before
        assert totals(netrec, trace) == known
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL
        minutes(trace, 3)  # as if nothing had been removed: the same files again, beside what is there
    assert (4, 3, True) in seen and (1, 1, False) in seen
    assert not (trace / layout.COMPACT_FOLDER).exists()


def test_left_over_originals_stay_when_the_merged_file_is_damaged(netrec: Netrec, tmp_path: Path) -> None:
    trace = minutes(tmp_path / "trace", 3)
    list(compaction.compact(trace, 10**6, LATER))
    minutes(trace, 3)
    (merged,) = (trace / "flows").rglob("*_000002.parquet")
    merged.write_bytes(merged.read_bytes()[:-20])
    done = netrec("compact", trace)
    assert done.code == 1 and merged.name in done.err
    assert len(names(trace)) == 4
    merged.unlink()
    assert netrec("verify", trace).code == 0


MEASURED = """
import resource, sys
from datetime import UTC, datetime
from pathlib import Path
import duckdb, pyarrow.parquet
from analyze import compaction, verification
def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
*_, one = compaction.compact(Path(sys.argv[1]), 10**9, datetime(2030, 1, 1, tzinfo=UTC))
few = most()
*_, many = compaction.compact(Path(sys.argv[2]), 10**9, datetime(2030, 1, 1, tzinfo=UTC))
print(one.tables["health"].merged, many.tables["health"].merged, many.tables["health"].files_after, most() - few)
"""


def written(trace: Path, number: int) -> Path:
    """One file as a recorder writes it; its number is in the footer's plain text only."""
    trace.mkdir()
    capture = metadata.CaptureMetadata("web-1", CAPTURE, "ebpf")
    writer = FileWriter(trace, layout.TraceFile("health", START, "web-1", CAPTURE, number), trace)
    writer.write(batch("health", [health(n, n + 1) for n in range(20)]))
    moment = START.isoformat()
    return writer.finish(metadata.FileMetadata(capture, "health", number, 20, 0, moment, "interval", moment)).path


def test_two_thousand_files_take_little_more_memory_than_two(netrec: Netrec, tmp_path: Path) -> None:
    for name, count in (("few", 2), ("many", 2000)):
        path = written(tmp_path / name, 100_000)
        whole = path.read_bytes()
        for number in range(100_001, 100_000 + count):  # the same rows under another number of as many digits
            path.with_name(path.name.replace("100000", str(number))).write_bytes(
                whole.replace(b"100000", str(number).encode())
            )
    command = [sys.executable, "-c", MEASURED, str(tmp_path / "few"), str(tmp_path / "many")]
    ended = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    few, merged, after, more = map(int, ended.stdout.split())
    assert (few, merged, after) == (2, 2000, 1)
    assert more * 1024 < 64e6
    assert json.loads(netrec("inspect", "--json", tmp_path / "many").out)["tables"][0]["rows"] == 40_000
    assert netrec("verify", tmp_path / "many").code == 0


def test_two_runs_do_not_disturb_each_other(netrec: Netrec, tmp_path: Path) -> None:
    trace = minutes(tmp_path / "trace", 3)
    folder = trace / layout.COMPACT_FOLDER
    storage.make_folder(folder)
    held = storage.lock(folder / layout.LOCK_FILE)
    assert held is not None
    (folder / "flows-000000.parquet.partial").write_bytes(b"x")
    busy = netrec("compact", trace)
    assert busy.code == 2 and "another netrec compact" in busy.err
    assert len(names(trace)) == 3 and (folder / "flows-000000.parquet.partial").exists()
    os.close(held)
    assert netrec("compact", trace).code == 0
    assert not folder.exists()


def test_a_query_goes_on_when_its_files_are_merged_under_it(tmp_path: Path) -> None:
    trace = minutes(tmp_path / "trace")
    opened = scan.Scan([trace])
    opened.require("flows", "health")
    question = "select count(*), sum(client_bytes)::BIGINT from flows"
    before = opened.fetch(question)
    list(compaction.compact(trace, 10**6, LATER))
    assert opened.fetch(question) == before
    assert not opened.skipped
    assert len(opened.files["flows"]) == 1


def test_files_that_go_while_they_are_listed_are_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = minutes(tmp_path / "trace")
    check = files.check

    def merged_meanwhile(folder: Path, path: Path) -> files.DataFile | files.Skipped:
        monkeypatch.setattr(files, "check", check)
        list(compaction.compact(trace, 10**6, LATER))
        return check(folder, path)

    monkeypatch.setattr(files, "check", merged_meanwhile)
    good, bad = files.open_all(trace, "flows")
    assert [file.name.numbers for file in good] == [range(12)] and not bad


def test_a_recorder_of_the_folder_goes_on(netrec: Netrec, tmp_path: Path) -> None:
    """Rotating as fast as it goes, with retention, while its finished files are merged again and again."""
    trace = tmp_path / "trace"
    command = [sys.executable, "-m", "netrec", "record", "--source", "synthetic", "-o", str(trace), "--json"]
    recorder = subprocess.Popen([*command, "--keep-age", "14d"], stdout=subprocess.PIPE, text=True)
    try:
        assert recorder.stdout is not None
        for _ in range(12):
            while '"files"' not in recorder.stdout.readline():
                assert recorder.poll() is None
            recorder.send_signal(signal.SIGHUP)
            list(compaction.compact(trace, 10**9, datetime.now(UTC) + timedelta(hours=2)))
        recorder.send_signal(signal.SIGTERM)
        said = [json.loads(line) for line in recorder.communicate(timeout=60)[0].splitlines()]
    finally:
        recorder.kill()
        recorder.wait()
    rows = said[-1]["rows"]
    list(compaction.compact(trace, 10**9, datetime.now(UTC) + timedelta(hours=2)))
    assert any("_" in name.rpartition("-")[2] for name in names(trace))
    assert rows and json.loads(netrec("sql", "select count(*) as rows from flows", trace, "--format", "json").out)[
        "rows"
    ] == [{"rows": rows}]
    assert netrec("verify", trace).code == 0


def test_an_unreadable_option_is_one_sentence(netrec: Netrec, tmp_path: Path) -> None:
    trace = minutes(tmp_path / "trace", 2)
    for option, text in (("--target-size", "many"), ("--older-than", "soon")):
        wrong = netrec("compact", option, text, trace)
        assert wrong.code == 2 and wrong.err.startswith(f"netrec: {option}:") and wrong.err.count("\n") == 1
    assert netrec("compact", tmp_path / "none").code == 2
