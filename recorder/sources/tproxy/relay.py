"""The relay: an edge-triggered epoll loop that moves bytes between the two ends of every session.

Everything here runs once or more per session, in plain Python, so it is written for few system calls: a short
session costs about nineteen. asyncio reached half of HAProxy's connections per second; this loop reaches HAProxy's.
A socket is registered once, for everything, and what epoll said is remembered in `readable` and `writable`.
The payload of a session that moves much goes through a pipe with splice(2) and is never seen by Python.

Nothing is buffered without bound: an end is read only when the other has taken all that was read before.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import socket
import struct
import termios
from _socket import socket as RawSocket
from collections.abc import Callable, MutableSequence
from dataclasses import dataclass
from time import monotonic_ns

from recorder.sources.tproxy import wire
from recorder.sources.tproxy.journal import Journal
from recorder.sources.tproxy.pipes import PIPE_SIZE, Pipes
from recorder.sources.tproxy.session import End, Session

IN, PRI, OUT, ERR, HUP, RDHUP = 0x001, 0x002, 0x004, 0x008, 0x010, 0x2000
EVERYTHING = select.EPOLLIN | select.EPOLLPRI | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
ARRIVED = IN | PRI | RDHUP | ERR
SPECIAL = PRI | RDHUP | ERR
MORE = IN | OUT
SERVER = wire.SERVER

SIZE = 65536  # of one read
RUNS_BEFORE_SPLICE = 2
TURNS = 16  # reads of one end before others have their turn
ACCEPTS = 32  # per turn
RESET_PATIENCE = 2_000_000_000  # ns: a reset waits so long for the bytes before it

NO_WAIT = socket.MSG_DONTWAIT
SEND = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
SPLICE = os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE if hasattr(os, "SPLICE_F_NONBLOCK") else 3
STREAM = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
LINGER_NONE = struct.pack("ii", 1, 0)
TIMEOUTS = {errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN}
IN_PROGRESS = (0, errno.EINPROGRESS)


@dataclass(frozen=True)
class Options:
    """How the relay dials and what it keeps.

    `connect(peer, target, ipv6)` makes the socket towards the server; it raises `OSError` when it cannot.
    `last_flow_id` holds one number, which each accepted session makes one larger.
    """

    connect: Callable[[tuple[str, int], tuple[str, int], bool], RawSocket]
    last_flow_id: MutableSequence[int] | memoryview
    session_limit: int
    pipe_limit: int
    keep_query: bool


class Relay:
    """All sessions of one worker."""

    def __init__(self, options: Options, journal: Journal) -> None:
        self.options = options
        self.journal = journal
        self.epoll = select.epoll()
        self.ends: dict[int, End] = {}
        self.open = 0
        self.full = False
        self.refused = 0
        self._flow_id = options.last_flow_id[0]
        self._listeners: dict[int, tuple[RawSocket, bool, tuple[str, int]]] = {}
        self._watched: dict[int, Callable[[], None]] = {}
        self._closing: list[Session] = []
        self._again: list[End] = []  # had their turn, but not all was moved
        self._resetting: dict[End, None] = {}
        self._dying: dict[End, int] = {}  # reset, but there is more to read; until when
        self._pipes = Pipes(options.pipe_limit)

    # -- the loop

    def listen(self, listener: RawSocket, ipv6: bool) -> None:
        """Take sessions from a listening, non-blocking socket."""
        address = listener.getsockname()
        self._listeners[listener.fileno()] = (listener, ipv6, (address[0], address[1]))
        self.epoll.register(listener.fileno(), select.EPOLLIN)

    def watch(self, descriptor: int, arrived: Callable[[], None]) -> None:
        """Call `arrived` when something can be read from a descriptor that is no session's."""
        self._watched[descriptor] = arrived
        self.epoll.register(descriptor, select.EPOLLIN)

    def pause(self) -> None:
        """Take no more sessions; those that wait stay in the listeners' queues."""
        self.full = True
        for descriptor in self._listeners:
            self.epoll.modify(descriptor, 0)

    def resume(self) -> None:
        """Take sessions again when there is room for more than a few."""
        if self.full and self.open < self.options.session_limit * 0.95:
            self.full = False
            for descriptor in self._listeners:
                self.epoll.modify(descriptor, select.EPOLLIN)

    def no_more(self) -> None:
        """Take what waits in the listeners' queues, and nothing after it."""
        for listener, ipv6, own in self._listeners.values():
            self._accept(listener, ipv6, own)
            listener.close()
        self._listeners.clear()

    def turn(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for something to happen, and carry on with all that did."""
        if self._again:
            timeout = 0
            again, self._again = self._again, []
            for end in again:
                if not end.session.close:
                    self.move(end, end.other)
        elif self._resetting or self._dying:
            timeout = min(timeout, 0.01)
        find = self.ends.get
        for descriptor, mask in self.epoll.poll(timeout, 512):
            found = find(descriptor)
            if found is None:
                self._other(descriptor)
                continue
            end = found
            # Only where nothing waits on either way: the same event may also say that this end can be written again.
            quick = mask == MORE and end.steady and end.writable and not end.held and end.other.writable
            if quick and self._pass(end, end.other):
                continue
            session = end.session
            if mask & OUT and not end.writable:
                end.writable = True
                if not session.connected and end.side == SERVER and not mask & ERR:
                    session.connected = monotonic_ns()
                other = end.other
                if (other.readable or other.held or other.piped or other.ended) and not session.close:
                    self.move(other, end)
            if mask & ARRIVED:
                end.readable = True
                if mask & SPECIAL:
                    if mask & RDHUP:
                        end.hangup = True
                    if mask & PRI:
                        end.steady = False
                        end.urgent = True  # a read stops short at urgent data: short no longer means empty
                    if mask & ERR and self._failed_at_once(end):
                        continue
                if not session.close:
                    self.move(end, end.other)
        if self._resetting or self._dying:
            self._pass_on_resets()
        if self._closing:
            # Only now: a descriptor that is closed and used again within one turn would get the old one's events.
            for session in self._closing:
                session.release()
            self._closing.clear()

    def _other(self, descriptor: int) -> None:
        listener = self._listeners.get(descriptor)
        if listener is not None:
            self._accept(*listener)
        elif descriptor in self._watched:
            self._watched[descriptor]()

    # -- birth

    def _accept(self, listener: RawSocket, ipv6: bool, own: tuple[str, int]) -> None:
        family = socket.AF_INET6 if ipv6 else socket.AF_INET
        for _ in range(ACCEPTS):
            if self.open >= self.options.session_limit:
                self.pause()
                return
            try:
                descriptor, peer = listener._accept()  # type: ignore[attr-defined]
            except BlockingIOError:
                return
            except OSError as problem:
                if problem.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self.pause()
                    return
                continue  # that one is gone (RFC 1122: ECONNABORTED and its like are of the connection)
            near = RawSocket(family, socket.SOCK_STREAM, 6, descriptor)
            try:
                target = near.getsockname()
            except OSError:
                near.close()
                continue
            if target[0] == own[0] and target[1] == own[1]:
                # Somebody dialled the proxy itself: it serves nobody who was not sent here by the rules.
                self.refused += 1
                _reset(near)
                near.close()
                continue
            self._open(near, peer, target, ipv6)

    def _open(self, near: RawSocket, peer: tuple[str, int], target: tuple[str, int], ipv6: bool) -> None:
        self._flow_id = self.options.last_flow_id[0] = self._flow_id + 1
        try:
            far = self.options.connect(peer, target, ipv6)
        except OSError:
            far = None
        client = End(near, wire.CLIENT)
        server = End(far or near, wire.SERVER)
        session = Session(self._flow_id, client, server, peer, target, ipv6)
        if far is None:
            session.close, session.closed_by = wire.CONNECT_FAILED, wire.PROXY
            session.write(self.journal, wire.END, monotonic_ns())
            _reset(near)
            near.close()
            return
        self.open += 1
        self.ends[near.fileno()] = client
        self.ends[far.fileno()] = server
        register = self.epoll.register
        register(near.fileno(), EVERYTHING)
        register(far.fileno(), EVERYTHING)

    # -- life

    def _pass(self, source: End, sink: End) -> bool:
        """The short way of `move` for one message of a session in full swing: one read, one write.

        False when there was nothing to read, or an error: `move` finds out.
        """
        try:
            data = source.sock.recv(SIZE, NO_WAIT)
        except OSError:
            return False
        size = len(data)
        source.received += size
        if 0 < size < SIZE:
            try:
                sent = sink.sock.send(data, SEND)
            except OSError:
                sent = 0  # if it is more than a full buffer, the next event says so
            if sent < size:
                source.held = memoryview(data)[sent:]
                sink.writable = False
            return True
        source.readable = bool(size)
        source.ended = not size
        source.held = data
        source.runs += 1
        self.move(source, sink)
        return True

    def move(self, source: End, sink: End) -> None:
        """Move what can be read at `source` to `sink`, until one of them cannot go on."""
        if source.pipe is not None:
            self._splice(source, sink)
            return
        turns = TURNS
        while True:
            if source.held:
                if not sink.writable:
                    return
                data: bytes | memoryview = source.held
            elif source.ended or not source.readable or not sink.writable:
                break
            else:
                try:
                    data = got = source.sock.recv(SIZE, NO_WAIT)
                except BlockingIOError:
                    source.readable = False
                    break
                except OSError as problem:
                    self._broken(source, problem)
                    return
                size = len(got)
                if size == SIZE:
                    source.runs += 1
                elif not source.urgent:
                    source.runs = 0
                    source.readable = False
                    if source.hangup or not size:
                        source.ended = True
                elif not size:
                    source.ended = True
                if not size:
                    break
                if not source.received and source.side == SERVER:
                    source.session.first_byte = monotonic_ns()
                source.received += size
                if source.sniffed is not None:
                    source.session.look(source, got, self.options.keep_query)
                    source.steady = source.sniffed is None and not source.urgent
            try:
                sent = sink.sock.send(data, SEND)
            except BlockingIOError:
                sent = 0
            except OSError as problem:
                source.held = b""
                self._broken(sink, problem)
                return
            if sent < len(data):
                source.held = memoryview(data)[sent:]
                sink.writable = False
                return
            source.held = b""
            if source.runs >= RUNS_BEFORE_SPLICE and source.sniffed is None and self._pipes.lend(source, sink):
                self._splice(source, sink)
                return
            turns -= 1
            if not turns:
                self._again.append(source)
                return
        if source.ended and not source.held and not sink.fin_sent:
            self._finish(source, sink)

    def _finish(self, source: End, sink: End) -> None:
        """The source has said all it will say, and the sink has it: pass the FIN on, or close both."""
        session = source.session
        if not session.closed_by:
            session.closed_by = source.side
        if sink.ended and source.fin_sent:
            self._close(session, wire.FIN)
            return
        if not sink.writable and not session.connected:
            return  # still connecting: the FIN follows the data when it is
        try:
            sink.sock.shutdown(socket.SHUT_WR)
        except OSError as problem:
            self._broken(sink, problem)
            return
        sink.fin_sent = True

    # -- splice

    def _splice(self, source: End, sink: End) -> None:
        assert source.pipe is not None
        outlet, inlet = source.pipe
        into, out_of = sink.sock.fileno(), source.sock.fileno()
        turns = TURNS
        while True:
            if source.piped:
                if not sink.writable:
                    return
                try:
                    source.piped -= os.splice(outlet, into, source.piped, flags=SPLICE)
                except BlockingIOError:
                    sink.writable = False
                    return
                except OSError as problem:
                    self._broken(sink, problem)
                    return
                if source.piped:
                    continue
            if source.ended or not source.readable or not sink.writable:
                break
            try:
                size = os.splice(out_of, inlet, PIPE_SIZE, flags=SPLICE)
            except BlockingIOError:
                source.readable = False
                break
            except OSError as problem:
                self._broken(source, problem)
                return
            if not size:
                source.ended = True
                break
            source.piped += size
            source.received += size
            turns -= 1
            if not turns:
                self._again.append(source)
                return
        if source.ended and not sink.fin_sent:
            self._finish(source, sink)

    # -- death

    def _failed_at_once(self, end: End) -> bool:
        """An error on a socket; True when nothing can be passed on from there now."""
        session = end.session
        if session.close or not session.connected:
            number = end.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._broken(end, OSError(number or errno.ECONNRESET, ""))
            return True
        # What came before the error can still be read: recv raises it in its place.
        if not end.other.writable:
            self._dying[end] = monotonic_ns() + RESET_PATIENCE
        return False

    def _broken(self, end: End, problem: OSError) -> None:
        """The connection at one end is over without a FIN: the other end is told so in the same way."""
        session, other = end.session, end.other
        if session.close:
            if session.resetting:  # both ends are gone now
                self._drop(session)
            return
        if not session.connected and end.side == SERVER and problem.errno == errno.ECONNRESET:
            session.connected = monotonic_ns()  # and reset before we looked: a refusal is ECONNREFUSED
        if not session.connected and end.side == SERVER:
            session.close = wire.CONNECT_FAILED
        elif problem.errno in TIMEOUTS:
            session.close = wire.TIMED_OUT
        else:
            session.close = wire.RESET_RECEIVED
        if not session.closed_by or session.close != wire.RESET_RECEIVED:
            session.closed_by = end.side  # else the FIN that came first ended it
        if end.held or end.piped or _unsent(other.sock):
            # Bytes that came before the reset get there before it, if the other end takes them in time.
            session.resetting = monotonic_ns() + RESET_PATIENCE
            self._resetting[other] = None
        else:
            self._drop(session)

    def _pass_on_resets(self) -> None:
        now = monotonic_ns()
        for end, until in list(self._dying.items()):
            if end.session.close or now >= until:
                del self._dying[end]
                self._broken(end, ConnectionResetError(errno.ECONNRESET, ""))
        for other in list(self._resetting):
            end, session = other.other, other.session
            if other.writable and (end.held or end.piped):
                self._flush(end, other)
            if now >= session.resetting or not (end.held or end.piped or _unsent(other.sock)):
                self._drop(session)

    def _flush(self, end: End, other: End) -> None:
        try:
            if end.piped and end.pipe:
                end.piped -= os.splice(end.pipe[0], other.sock.fileno(), end.piped, flags=SPLICE)
            elif end.held:
                end.held = end.held[other.sock.send(end.held, SEND) :]
        except BlockingIOError:
            other.writable = False
        except OSError:
            end.held = b""
            other.session.resetting = 1

    def _drop(self, session: Session) -> None:
        """End both sides with a reset (to the one that is already gone it does nothing)."""
        self._resetting.pop(session.client, None)
        self._resetting.pop(session.server, None)
        _reset(session.client.sock)
        _reset(session.server.sock)
        self._close(session, session.close)

    def _close(self, session: Session, close: int) -> None:
        session.close = close
        session.resetting = 0
        session.write(self.journal, wire.END, monotonic_ns())
        self.open -= 1
        self._closing.append(session)
        for end in (session.client, session.server):
            if end.pipe is not None:
                self._pipes.give_back(end)
            end.steady = False
            del self.ends[end.sock.fileno()]

    def report(self, session: Session, now: int) -> None:
        """The row of a session that lives on. One that was quiet gives back its pipes."""
        if session.close:
            return
        for end in (session.client, session.server):
            if end.pipe is not None and not end.piped and end.received == end.reported:
                self._pipes.give_back(end)
        session.write(self.journal, wire.ACTIVE, now)

    def end_all(self) -> None:
        """Reset every session that is still open; their rows say `forced`."""
        now = monotonic_ns()
        for session in self.sessions():
            session.close, session.closed_by = wire.RESET_SENT, wire.PROXY
            session.write(self.journal, wire.FORCED, now)
            _reset(session.client.sock)
            _reset(session.server.sock)
            session.release()
        self.ends.clear()
        self.open = 0

    def sessions(self) -> list[Session]:
        """Those that are open, oldest first."""
        return [end.session for end in self.ends.values() if end.side == SERVER]


def _reset(sock: RawSocket) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)


def _unsent(sock: RawSocket) -> int:
    """Bytes that the peer has not acknowledged (SIOCOUTQ)."""
    try:
        return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"), "little")
    except OSError:
        return 0
