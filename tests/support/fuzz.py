"""Feeds the parsers of first bytes damaged hellos and heads for a while: `python -m tests.support.fuzz --seconds 60`.

Stops with an error at the first crash, and at the first answer that takes longer than `SLOWEST`.
"""

from __future__ import annotations

import argparse
import random
import time

from recorder.sources.tproxy import http, tls

SLOWEST = 0.25  # seconds: far above what a busy machine adds, far below what an endless loop takes
SEEDS = (
    bytes.fromhex("160301007f0100007b0303") + bytes(32) + bytes.fromhex("00000213010100005000000012001000000d7777772e")
    + b"example.org" + bytes.fromhex("0010000e000c02683208687474702f312e31002b0005040304030300000000"),
    b"GET http://user@example.org:80/path?query HTTP/1.1\r\nHost: example.org\r\nCookie: a=b\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nServer: x\r\n\r\n",
    b"\r\n" * 50 + b"A" * 32 + b" /" + b"a" * 200,
)  # fmt: skip


def damaged(rng: random.Random) -> bytes:
    """One of the seeds, with bytes changed, cut out, doubled or repeated up to the parsers' limit."""
    data = bytearray(rng.choice(SEEDS))
    for _ in range(rng.randrange(0, 12)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(5):
            case 0:
                data[at : at + 1] = rng.randbytes(1)
            case 1:
                del data[at : at + rng.randrange(1, 9)]
            case 2:
                data[at:at] = data[max(0, at - 20) : at]
            case 3:
                data[at:at] = rng.randbytes(rng.randrange(1, 9))
            case _:
                data[at:at] = bytes([rng.randrange(256)]) * rng.randrange(1, 3000)
    return bytes(data[: 2 * http.LIMIT])


def run(seconds: float, seed: int) -> int:
    """How many inputs were tried. Raises what a parser raises, and `AssertionError` for a slow answer."""
    rng = random.Random(seed)
    end = time.monotonic() + seconds
    tried = 0
    while time.monotonic() < end:
        data = damaged(rng)
        begun = time.thread_time()
        hello, request, status = tls.parse(data), http.parse_request(data), http.parse_status(data)
        taken = time.thread_time() - begun
        assert taken < SLOWEST, f"{taken:.3f} s for {data[:200]!r}..."
        assert hello is None or len(hello.server_name) <= 4 * 255
        assert request is None or len(request.path) <= http.PATH_LIMIT
        assert status is None or -1 <= status < 600
        if request is not None and request.host:
            http.name_of(request.host)
        tried += 1
    return tried


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(f"{run(given.seconds, given.seed)} inputs, no crash, no hang")


if __name__ == "__main__":
    main()
