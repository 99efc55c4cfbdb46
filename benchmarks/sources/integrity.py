"""Random bytes both ways through netrec's proxy: 200 sessions at once, pauses, half-closes and resets; all must arrive.

Each side sends from its own seed, in pieces of random size with random pauses, and checks what came against the other's
seed. A third of the sessions ends with a half-close by the client, a third with FINs, a third with a reset by the
client after everything has arrived; the server notes how each one ended for it.
"""

from __future__ import annotations

import json
import signal
from collections import Counter

from benchmarks.harness import Options, Report, Target, scratch
from tests.support.gateway import Gateway, record, recorded
from tests.support.namespaces import Network

SESSIONS = 200
BYTES_EACH_WAY = 5_000_000

PROGRAM = r"""
import hashlib, json, random, socket, struct, sys, threading, time
side, address, port, count, size = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
results, lock = [], threading.Lock()

def send(sock, seed):
    rng, data, at = random.Random(-seed), random.Random(seed).randbytes(size), 0
    while at < size:
        step = rng.randrange(1, 300_000)
        sock.sendall(data[at:at + step]); at += step
        if rng.random() < 0.1: time.sleep(rng.random() * 0.02)

def receive(sock, seed):
    got, wanted = hashlib.sha256(), size
    while wanted:
        part = sock.recv(min(1 << 16, wanted))
        if not part: return False
        got.update(part); wanted -= len(part)
    return got.digest() == hashlib.sha256(random.Random(seed).randbytes(size)).digest()

def both(sock, mine, theirs):
    out = []
    thread = threading.Thread(target=lambda: out.append(receive(sock, theirs)))
    thread.start(); send(sock, mine); thread.join()
    return bool(out and out[0])

def serve(sock):
    number, ending = struct.unpack("!II", sock.recv(8, socket.MSG_WAITALL))
    right = both(sock, 2 * number + 1, 2 * number)
    sock.sendall(b"k")
    try: last = sock.recv(1); ended = "fin" if last == b"" else "data"
    except ConnectionResetError: ended = "reset"
    if ended == "fin": sock.sendall(b"bye")
    sock.close()
    with lock: results.append((number, right, ended))

def dial(number):
    sock = socket.create_connection((address, port), timeout=120)
    ending = number % 3
    sock.sendall(struct.pack("!II", number, ending))
    right = both(sock, 2 * number, 2 * number + 1)
    sock.recv(1)
    ended = "fin"
    if ending == 2:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)); ended = "reset"
    else:
        sock.shutdown(socket.SHUT_WR)
        right = right and (sock.recv(10, socket.MSG_WAITALL) == b"bye")
    sock.close()
    with lock: results.append((number, right, ended))

if side == "server":
    listener = socket.create_server((address, port), backlog=512); print("ready", flush=True)
    threads = []
    for _ in range(count):
        sock, _ = listener.accept()
        threads.append(threading.Thread(target=serve, args=(sock,))); threads[-1].start()
else:
    threads = [threading.Thread(target=dial, args=(number,)) for number in range(count)]
    for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps(sorted(results)))
"""


def run(options: Options) -> Report:
    count, size = options.size(SESSIONS, 12), options.size(BYTES_EACH_WAY, 300_000)
    with scratch() as folder, Network() as network:
        gateway = Gateway(network)
        (folder / "program.py").write_text(PROGRAM)
        arguments = [gateway.server4, "9000", str(count), str(size)]
        recorder = record(gateway.host, folder / "trace", "--interface", gateway.inside)
        server = gateway.server.start("python3", folder / "program.py", "server", *arguments)
        assert server.stdout is not None
        server.stdout.readline()
        done = gateway.client.run("python3", folder / "program.py", "client", *arguments, timeout=400)
        client_side = {number: (right, ended) for number, right, ended in json.loads(done.stdout)}
        server_side = {number: (right, ended) for number, right, ended in json.loads(server.stdout.read())}
        recorder.send_signal(signal.SIGINT)
        recorder.wait(60)
        table = recorded(folder / "trace").group_by("flow_id")
        rows = table.aggregate([("client_bytes", "sum"), ("server_bytes", "sum"), ("tcp_close", "max")]).to_pylist()
    wrong = sum(not right for side in (client_side, server_side) for right, _ in side.values())
    other = sum(client_side[number][1] != server_side[number][1] for number in client_side)
    expected = Counter(
        ("rst_received" if number % 3 == 2 else "fin", size + 8, size + (1 if number % 3 == 2 else 4))
        for number in range(count)
    )
    found = Counter((row["tcp_close_max"], row["client_bytes_sum"], row["server_bytes_sum"]) for row in rows)
    report = Report(["sessions", "bytes each way", "rows"], [[count, count * size, len(rows)]])
    report.targets = [
        Target("sessions that are missing on a side", float(2 * count - len(client_side) - len(server_side)), 0.0),
        Target("checksums that differ", float(wrong), 0.0),
        Target("sessions that ended otherwise for the server", float(other), 0.0),
        Target("rows that are not what went by", float(sum((expected - found).values())), 0.0),
    ]
    return report
