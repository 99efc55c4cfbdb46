"""mitmproxy 12 in transparent mode as one more gateway.

It needs Python 3.12, so it gets an environment of its own in benchmarks/.cache, made when it is not in the search path.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.harness import CACHE, PeerMissing
from benchmarks.sources.gateways import PORT, Gateway, Laboratory
from tests.support.namespaces import wait_until

BENCHMARK = False
OLDEST = 12
PYTHONS = ("python3.14", "python3.13", "python3.12")
ENVIRONMENT = "mitmproxy"
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
    for program in (shutil.which("mitmdump"), CACHE / ENVIRONMENT / "bin" / "mitmdump"):
        if program is None or shutil.which(str(program)) is None:
            continue
        said = subprocess.run([str(program), "--version"], capture_output=True, text=True, timeout=60).stdout
        version = re.search(r"^Mitmproxy: (\d+)(\S*)", said, re.MULTILINE)
        if version and int(version[1]) >= OLDEST:
            return str(program), version[1] + version[2]
        seen.append(f"{program} is {version[1] + version[2] if version else 'not one that runs'}")
    where = f"; {', '.join(seen)}" if seen else " in the search path or in benchmarks/.cache/mitmproxy"
    raise PeerMissing(f"no mitmproxy of version {OLDEST} or later{where}")


def install() -> None:
    """Put it into its own environment where it is missing. Raises `PeerMissing` with what stands in the way."""
    with contextlib.suppress(PeerMissing):
        find()
        return
    folder = CACHE / ENVIRONMENT
    last = "no Python of 3.12 or later is here"
    for python in _pythons():
        shutil.rmtree(folder, ignore_errors=True)
        print(f"mitmproxy is installed into {folder} with {python} ...", file=sys.stderr)
        for command in (
            [python, "-m", "venv", str(folder)],
            [str(folder / "bin" / "pip"), "install", "--quiet", f"mitmproxy>={OLDEST}"],
        ):
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
            if done.returncode:
                last = f"{' '.join(command)}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}"
                break
        else:
            return
    raise PeerMissing(f"mitmproxy cannot be installed ({last})")


def _pythons() -> list[str]:
    """Those of 3.12 or later that run: in the search path, or of pyenv, whose shims name versions that do not."""
    found = [shutil.which(name) for name in PYTHONS]
    found += [str(path) for path in sorted(Path.home().glob(".pyenv/versions/3.1[2-9]*/bin/python3"))]
    check = "import sys, venv; sys.exit(sys.version_info < (3, 12))"
    return [one for one in found if one and not subprocess.run([one, "-c", check], capture_output=True).returncode]


def gateway(laboratory: Laboratory, name: str = "mitmproxy") -> Gateway:
    """A gateway on which it proxies, installed if need be; it prints and keeps nothing, and streams large bodies.

    Raises `PeerMissing`.
    """
    install()
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
