"""Tries a plan in a network namespace of its own. `python -m recorder.sources.tproxy.rehearsal`

What this kernel or this nft cannot do shows here, in its own words, before anything is touched. The plan comes as
JSON on standard input; the complaint goes to standard output, and the exit code is 1.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys

from recorder.sources.tproxy.nftables import Nftables, NftablesError
from recorder.sources.tproxy.plan import from_json, run_ip

CLONE_NEWNET = 0x40000000


def main() -> int:
    plan = from_json(json.load(sys.stdin))
    try:
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
            raise OSError("no network namespace can be made")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True, capture_output=True)
        nftables = Nftables()
        for commands in (plan.install(), plan.activate(), plan.bypass(), plan.deactivate()):
            nftables.run(commands)
        run_ip(plan.routes())
        run_ip(plan.unroute())
        nftables.run(plan.remove())
    except (NftablesError, OSError, subprocess.CalledProcessError) as problem:
        print(problem)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
