"""A DNS server of which every answer is known, and a resolver (glibc's) that asks it.

Names that begin with `missing`, `broken` or `silent` are NXDOMAIN, SERVFAIL or without an answer; `big` ones need TCP.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

from tests.support.namespaces import Namespace

# (name, type) -> addresses
Addresses = Mapping[tuple[str, str], Sequence[str]]


def answer(wire: bytes, addresses: Addresses, *, over_tcp: bool) -> bytes:
    """What the server says to a query; none to names that begin with `silent`."""
    query = dns.message.from_wire(wire)
    response = dns.message.make_response(query)
    response.flags |= dns.flags.RA  # without it glibc takes an empty answer for a referral
    question = query.question[0]
    name, kind = question.name.to_text(), dns.rdatatype.to_text(question.rdtype)
    if name.startswith("silent"):
        return b""
    if name.startswith("missing"):
        response.set_rcode(dns.rcode.NXDOMAIN)
    elif name.startswith("broken"):
        response.set_rcode(dns.rcode.SERVFAIL)
    elif name.startswith("big") and not over_tcp:
        response.flags |= dns.flags.TC
    else:
        response.answer.append(dns.rrset.from_text(name, 60, "IN", "CNAME", "alias.example."))
        count = 150 if name.startswith("big") else 2
        given = addresses.get((name.rstrip("."), kind))
        if given is None:
            last = {"A": "192.0.2.", "AAAA": "2001:db8::"}[kind]
            given = [f"{last}{number + (10 if name.startswith('big') else 1)}" for number in range(count)]
        if given:
            response.answer.append(dns.rrset.from_text("alias.example.", 30, "IN", kind, *given))
    return response.to_wire(max_size=65535)


def _serve_udp(server: socket.socket, addresses: Addresses) -> None:
    while True:
        try:
            query, client = server.recvfrom(4096)
        except OSError:
            return
        if not query:  # shut down
            return
        if wire := answer(query, addresses, over_tcp=False):
            server.sendto(wire, client)


def _serve_tcp(server: socket.socket, addresses: Addresses) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection, connection.makefile("rwb") as stream:
            while length := stream.read(2):
                wire = answer(stream.read(int.from_bytes(length, "big")), addresses, over_tcp=True)
                stream.write(len(wire).to_bytes(2, "big") + wire)
                stream.flush()


@contextmanager
def name_server(namespace: Namespace, address: str, addresses: Addresses | None = None) -> Iterator[None]:
    """A DNS server at port 53, over UDP and TCP, while the block runs; the records of `addresses` and invented ones."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with namespace.entered():
        udp = socket.socket(family, socket.SOCK_DGRAM)
        udp.bind((address, 53))
        tcp = socket.create_server((address, 53), family=family)
    threads = [
        threading.Thread(target=_serve_udp, args=(udp, addresses or {})),
        threading.Thread(target=_serve_tcp, args=(tcp, addresses or {})),
    ]
    for thread in threads:
        thread.daemon = True
        thread.start()
    try:
        yield
    finally:
        for one in (udp, tcp):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            one.close()


def resolving(configuration: Path, server: str, *command: str | Path, options: str = "timeout:5") -> list[str | Path]:
    """The command that runs `command` with `server` as its resolver; nobody else's /etc/resolv.conf changes."""
    configuration.write_text(f"nameserver {server}\noptions {options}\n")
    script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", script, configuration, *command]
