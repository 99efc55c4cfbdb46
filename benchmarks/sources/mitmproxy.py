"""mitmproxy 12 in transparent mode as one more gateway, where it is installed.

It needs Python 3.12, so it is looked for in the search path and in an environment of its own:
`python3.12 -m venv benchmarks/.cache/mitmproxy && benchmarks/.cache/mitmproxy/bin/pip install 'mitmproxy>=12'`
"""

from __future__ import annotations

import re
import shutil
import subprocess

from benchmarks.harness import CACHE, PeerMissing
from benchmarks.sources.gateways import PORT, Gateway, Laboratory
from tests.support.namespaces import wait_until

BENCHMARK = False
OLDEST = 12
LISTENING = 9998

# The kernel rewrites the address and tells the proxy the one that was meant: mitmproxy's way, not TPROXY.
REDIRECT = """
table ip peer {{
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    iifname "{device}" tcp dport {port} redirect to :{listening}
  }}
}}
"""


def find() -> tuple[str, str]:
    """The program and its version; raises `PeerMissing` when there is none, or only an older one."""
    seen = []
    for program in (shutil.which("mitmdump"), CACHE / "mitmproxy" / "bin" / "mitmdump"):
        if program is None or shutil.which(str(program)) is None:
            continue
        said = subprocess.run([str(program), "--version"], capture_output=True, text=True, timeout=60).stdout
        version = re.search(r"^Mitmproxy: (\d+)(\S*)", said, re.MULTILINE)
        if version and int(version[1]) >= OLDEST:
            return str(program), version[1] + version[2]
        seen.append(f"{program} is {version[1] + version[2] if version else 'not one that runs'}")
    where = f"; {', '.join(seen)}" if seen else " in the search path or in benchmarks/.cache/mitmproxy"
    raise PeerMissing(f"no mitmproxy of version {OLDEST} or later{where}")


def gateway(laboratory: Laboratory, name: str = "mitmproxy") -> Gateway:
    """A gateway on which it proxies; it prints and keeps nothing, and streams large bodies: what suits it best."""
    program, _ = find()
    made = laboratory.gateway(name)
    rules = laboratory.folder / "mitmproxy.nft"
    rules.write_text(REDIRECT.format(device=made.inside, port=PORT, listening=LISTENING))
    made.namespace.run("nft", "-f", rules)
    options = [
        f"confdir={laboratory.folder}/mitmproxy", "flow_detail=0", "block_global=false", "stream_large_bodies=64k",
        "termlog_verbosity=error",
    ]  # fmt: skip
    made.processes.append(
        made.namespace.start(
            program, "--mode", f"transparent@{LISTENING}", "-q", *(word for one in options for word in ("--set", one)),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
        )
    )  # fmt: skip
    wait_until(lambda: f":{LISTENING}" in made.namespace.run("ss", "-Hlnt").stdout, "mitmproxy listens", timeout=60)
    wait_until(lambda: laboratory.fetch(made).returncode == 0, "mitmproxy answers")
    return made
