"""How the proxy's sockets are made: the listeners that the rules hand sessions to, and those towards the servers."""

from __future__ import annotations

import errno
import socket
from _socket import socket as RawSocket
from collections.abc import Callable

IP_TRANSPARENT, IPV6_TRANSPARENT = 19, 75
IP_BIND_ADDRESS_NO_PORT = 24
BACKLOG = 4096
STREAM = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
PENDING = (0, errno.EINPROGRESS)
LOOPBACK = {False: "127.0.0.1", True: "::1"}
# An address in use by the client's own port on this host: the address can still be kept, the port cannot.
TAKEN = (errno.EADDRINUSE, errno.EADDRNOTAVAIL)

Dial = Callable[[tuple[str, int], tuple[str, int], bool], RawSocket]


def listener(ipv6: bool, port: int) -> socket.socket:
    """A socket to listen with for tproxy, on loopback (nobody outside can dial it); port 0: any that is free.

    Each worker has its own, of the same port (SO_REUSEPORT). What is set here is inherited by the accepted
    sockets. Raises `OSError`.
    """
    made = socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if ipv6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
        else:
            made.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
        made.bind((LOOPBACK[ipv6], port))
    except OSError:
        made.close()
        raise
    return made


def _towards(ipv6: bool) -> RawSocket:
    made = RawSocket(socket.AF_INET6 if ipv6 else socket.AF_INET, STREAM, 6)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    return made


def _connect(made: RawSocket, target: tuple[str, int]) -> RawSocket:
    number = made.connect_ex(target)
    if number not in PENDING:
        made.close()
        raise OSError(number, "connect")
    return made


def as_client(mark: int) -> Dial:
    """Dial with the client's own address and port, or the address alone where the port is taken."""

    def attempt(source: tuple[str, int], target: tuple[str, int], ipv6: bool) -> RawSocket:
        made = _towards(ipv6)
        try:
            if ipv6:
                made.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
            else:
                made.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if mark:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            if not source[1]:
                made.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            made.bind(source)
        except OSError:
            made.close()
            raise
        return _connect(made, target)

    def dial(peer: tuple[str, int], target: tuple[str, int], ipv6: bool) -> RawSocket:
        try:
            return attempt(peer, target, ipv6)
        except OSError as problem:
            if problem.errno not in TAKEN:
                raise
            return attempt((peer[0], 0, *peer[2:]), target, ipv6)

    return dial


def as_self(mark: int) -> Dial:
    """Dial with this host's own address (`--no-spoof`)."""

    def dial(peer: tuple[str, int], target: tuple[str, int], ipv6: bool) -> RawSocket:
        made = _towards(ipv6)
        if mark:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        return _connect(made, target)

    return dial


def as_host(mark: int) -> Dial:
    """Dial for a program of this host: from the address that it chose, with a port of its own, and marked.

    The program's own socket has the address and port already: only the address can be kept.
    """
    keep = as_client(mark)

    def dial(peer: tuple[str, int], target: tuple[str, int], ipv6: bool) -> RawSocket:
        return keep((peer[0], 0, *peer[2:]), target, ipv6)

    return dial
