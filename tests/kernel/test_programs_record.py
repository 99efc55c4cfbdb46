"""`netrec record --program` as a user runs it: a table of the trace like any other, also where the program is not."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from recorder.bpf import syscalls
from tests.support.namespaces import ROOT, end_process, wait_until
from tests.support.programs import ProgramRun

pytestmark = pytest.mark.kernel

PROGRAM = """// Who asks for priorities.
//
// A test's.
// @table priority_calls: One row per call of getpriority.
struct call {
    kernel_time time;        // when
    s32 process_pid;         // who
    u64 argument;            // count: what was asked
    char process_name[16];   // its name
};

SEC("tp/syscalls/sys_enter_getpriority")
int asked(struct trace_event_raw_sys_enter *ctx)
{
    struct call row = {.time = bpf_ktime_get_boot_ns(), .argument = ctx->args[1]};
    struct task_struct *task = (struct task_struct *)bpf_get_current_task();
    row.process_pid = process_id(task);
    bpf_get_current_comm(row.process_name, sizeof(row.process_name));
    emit(&row);
    return 0;
}
"""
QUERY = """-- Who asked how often.
--
-- @table   priority_calls
-- @column  process VARCHAR: who
-- @column  calls   BIGINT count: how often
-- @chart   bar x=calls y=process
select process_name as process, count(*) as calls from priority_calls group by all order by 2 desc, 1
"""


@pytest.fixture
def recorders() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        end_process(process)


def netrec(*arguments: str | Path, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "netrec", *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False, cwd=ROOT, env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def rows(trace: Path, sql: str) -> list[dict[str, object]]:
    return json.loads(netrec("sql", sql, trace, "--format", "json").stdout)["rows"]


# No process has so high a number, and nobody else asks for it.
ASKED = 1_000_000_000 + os.getpid()


def ask(times: int) -> None:
    for _ in range(times):
        with contextlib.suppress(ProcessLookupError):
            os.getpriority(os.PRIO_PROCESS, ASKED)


def test_a_recording_with_rotation_kill_and_repair(recorders: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    program, trace = tmp_path / "calls.bpf.c", tmp_path / "trace"
    program.write_text(PROGRAM)
    command = [
        "record",
        "-o",
        trace,
        "--json",
        "--source",
        "synthetic",
        "--rotate-interval",
        "1h",
        "--program",
        program,
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "netrec", *map(str, command)],
        stdout=subprocess.PIPE, text=True, start_new_session=True, cwd=ROOT,
    )  # fmt: skip
    recorders.append(process)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())
    ask(10)
    # A second later they are in the spool, and read from there while the recording goes on.
    wait_until(lambda: list(trace.glob(".spool/*/priority_calls-*.arrows")), "rows in the spool")
    mine = f"select count(*) as n from priority_calls where process_pid = {os.getpid()} and argument = {ASKED}"
    wait_until(lambda: rows(trace, mine) == [{"n": 10}], "the rows of the spool")
    process.send_signal(signal.SIGHUP)
    wait_until(lambda: list(trace.glob("priority_calls/*/*/*.parquet")), "a finished file")
    ask(5)
    wait_until(lambda: rows(trace, mine) == [{"n": 15}], "all rows")
    process.kill()
    process.wait()
    program.unlink()
    away = tmp_path / "away"
    shutil.copytree(trace, away)
    assert "rows saved" in netrec("repair", away).stdout
    netrec("verify", away)
    assert rows(away, mine) == [{"n": 15}]
    described = json.loads(netrec("inspect", away, "--json").stdout)["definitions"]["priority_calls"]
    assert described["meaning"] == "One row per call of getpriority." and described["program"] == "calls.bpf.c"
    assert described["description"].startswith("Who asks for priorities.")
    columns = {column["column"]: (column["type"], column["unit"], column["meaning"]) for column in described["columns"]}
    assert columns["argument"] == ("BIGINT", "count", "what was asked")
    assert columns["process_pid"] == ("INTEGER", "", "who")
    queries = tmp_path / "queries"
    queries.mkdir()
    (queries / "who.sql").write_text(QUERY)
    answer = netrec("analyze", "who", away, "--queries", queries, "--filter", f"argument = {ASKED}", "--format", "csv")
    assert answer.stdout.splitlines()[0] == "process,calls" and answer.stdout.splitlines()[1].endswith(",15")
    (queries / "other.sql").write_text(QUERY.replace("priority_calls", "other_calls"))
    lacking = netrec("analyze", "other", away, "--queries", queries, code=2)
    assert "no other_calls table: record with a --program whose table is other_calls" in lacking.stderr


@pytest.fixture
def configuration_folder() -> Iterator[Path]:
    """/etc/netrec, to mount something over; gone afterwards if it was not there."""
    folder = Path("/etc/netrec")
    if folder.is_dir():
        yield folder
        return
    folder.mkdir()
    yield folder
    folder.rmdir()


@pytest.mark.usefixtures("configuration_folder")
def test_a_program_is_not_loaded_when_this_host_wants_it_signed(tmp_path: Path) -> None:
    """What /etc/netrec/config.toml says, in a mount namespace of its own, where the command line cannot change it."""
    program, signers = tmp_path / "calls.bpf.c", tmp_path / "allowed_signers"
    program.write_text(PROGRAM)
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True, timeout=60)
    signers.write_text(f"ops@example.org {key.with_suffix('.pub').read_text()}")
    (tmp_path / "netrec").mkdir()
    (tmp_path / "netrec" / "config.toml").write_text(f'[record]\nprogram-signers = "{signers}"\n')

    def record(*options: str, environment: str = "") -> subprocess.CompletedProcess[str]:
        words = [environment, sys.executable, "-m netrec record --source synthetic --quiet --duration 1s"]
        words += ["-o", str(tmp_path / "trace"), "--program", str(program), *options]
        copy = f"mount -t tmpfs none /etc/netrec && cp {tmp_path}/netrec/config.toml /etc/netrec/"
        return subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", f"{copy} && {' '.join(words)}"],
            capture_output=True, text=True, timeout=120, check=False, cwd=ROOT,
        )  # fmt: skip

    refused = record()
    assert refused.returncode == 2 and "is not signed, and this host loads only signed ones" in refused.stderr
    for options, environment in ((("--program-signers", "''"), ""), ((), "NETREC_PROGRAM_SIGNERS=")):
        overridden = record(*options, environment=environment)
        assert overridden.returncode == 2 and "nothing else may" in overridden.stderr
    subprocess.run(["ssh-keygen", "-Y", "sign", "-q", "-n", "netrec", "-f", key, program], check=True, timeout=60)
    accepted = record()
    assert accepted.returncode == 0, accepted.stderr
    program.write_text(PROGRAM.replace("A test's", "Changed"))
    assert "it was changed after that" in record().stderr


def test_the_time_of_a_program_counts_in_the_budget(tmp_path: Path) -> None:
    program = tmp_path / "mine.bpf.c"
    program.write_text(PROGRAM)
    with ProgramRun(program, max_cpu=0.5) as run:
        spent = 0

        def counted() -> bool:
            nonlocal spent
            ask(200)
            spent += run.source.health().programs_cpu_us or 0
            return spent > 0

        run.until(counted)
        assert "sys_admin" in run.source.capabilities()
        assert run.source.health().notes == ()


def test_where_the_kernel_does_not_tell_the_time_of_a_program_that_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "mine.bpf.c"
    program.write_text(PROGRAM)

    def refused() -> int:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(syscalls, "keep_run_times", refused)
    with ProgramRun(program, max_cpu=0.5) as run:
        (note,) = run.source.health().notes
        assert "not counted in --max-cpu (Operation not permitted" in note
        run.source.poll()
        after = run.source.health()
        assert (after.notes, after.programs_cpu_us) == ((), None)
        assert "sys_admin" not in run.source.capabilities()
