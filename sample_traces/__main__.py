"""Records the sample traces anew, as root: `python -m sample_traces [MODULE ...] [-o FOLDER] [--list]`.

Needs nginx, redis-server and iperf3. Without a name it records all, several at a time; each takes some minutes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sample_traces.sample import discover, record

FOLDER = Path(__file__).resolve().parent
AT_ONCE = 3  # they mostly wait


def main() -> int:
    """Record, or list; the number of samples that failed is the exit code."""
    parser = argparse.ArgumentParser(prog="python -m sample_traces", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="MODULE", help="which of sample_traces/workloads (default: all)")
    parser.add_argument("-o", "--output", type=Path, default=FOLDER, help="folder to record into")
    parser.add_argument("--list", action="store_true", help="say what there is")
    given = parser.parse_args()
    samples = discover()
    if given.list:
        for name, sample in samples.items():
            print(f"{name}: {'; '.join(f'{trace}: {what}' for trace, what in sample.traces.items())}")
        return 0
    unknown = [name for name in given.names if name not in samples]
    if unknown:
        parser.error(f"there is no workload {unknown[0]!r}: they are {', '.join(samples)}")
    given.output.mkdir(parents=True, exist_ok=True)
    if len(given.names) == 1:
        record(given.names[0], samples[given.names[0]], given.output)
        return 0

    def separately(name: str) -> int:
        # A process each: what one of them leaves behind when it is killed is swept by the pid in its names.
        command = [sys.executable, "-m", "sample_traces", name, "-o", str(given.output)]
        code = subprocess.run(command, cwd=FOLDER.parent).returncode
        print(f"{name}: {'recorded' if code == 0 else f'failed with exit {code}'}", flush=True)
        return int(code != 0)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return sum(pool.map(separately, given.names or samples))


if __name__ == "__main__":
    sys.exit(main())
