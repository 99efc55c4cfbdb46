"""The recorder's end of the conversation with the guard: one order at a time, and what it says unasked."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from netrec.errors import CannotRecordError
from recorder.sources.tproxy.plan import Plan
from recorder.sources.tproxy.processes import ended, spawn, stopped

PATIENCE = 20.0
LOOK = 0.5  # while it is waited for, whether it was stopped is looked at this often
# It says what it has counted once a second: one that says nothing for so long hangs.
SILENCE = 15.0


class GuardClient:
    """A running guard. Its words are `counted TAKEN PASSED` (packets so far) and `failed REASON`."""

    def __init__(self, plan: Plan) -> None:
        self._answers = b""
        self._unasked: list[str] = []
        self._control, guards = socket.socketpair()
        self._heard = time.monotonic()
        with guards:
            given = {"plan": asdict(plan), "control": guards.fileno()}
            self.process: subprocess.Popen[bytes] = spawn("guard", given, [guards.fileno()])

    def order(self, line: str, descriptors: Sequence[int] = ()) -> None:
        """Send an order, with descriptors if it takes some, and wait until it is carried out.

        Raises `CannotRecordError`; the guard has taken everything away then.
        """
        self._control.settimeout(LOOK)
        try:
            socket.send_fds(self._control, [line.encode() + b"\n"], list(descriptors))
            while (answer := self._answer()) != "ok":
                if answer.startswith("error "):
                    raise CannotRecordError(
                        f"the rules could not be put in place ({answer.removeprefix('error ')})",
                        "nothing was changed; netrec record --dry-run shows every rule",
                    )
                self._unasked.append(answer)
        except OSError as problem:
            raise CannotRecordError(f"the proxy's guard has gone ({problem})", "nothing is left in place") from None

    def words(self) -> Iterator[tuple[str, str]]:
        """What it has said unasked, as word and rest. Raises `OSError` when it is gone, if need be by our hand."""
        self._control.setblocking(False)
        gone: OSError | None = None
        try:
            while True:
                self._unasked.append(self._line())
        except BlockingIOError:
            if time.monotonic() - self._heard > SILENCE or stopped(self.process.pid):
                gone = self._kill()
        except OSError as problem:
            gone = problem
        while self._unasked:
            word, _, rest = self._unasked.pop(0).partition(" ")
            yield word, rest
        if gone:
            raise gone

    def end(self) -> bool:
        """Have everything taken away; False when that is not certain."""
        with contextlib.suppress(CannotRecordError):
            self.order("remove")
        self._control.close()
        return ended(self.process, 5.0) == 0

    def _answer(self) -> str:
        """The next line, waited for. Raises `OSError` when it does not come; the guard is gone then."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return self._line()
            except TimeoutError:
                if time.monotonic() > deadline or stopped(self.process.pid):
                    raise self._kill() from None

    def _kill(self) -> OSError:
        """A guard that cannot act is worse than none: the kernel takes the table away when it has gone."""
        self.process.kill()
        return ConnectionResetError("it was stopped or did not answer")

    def _line(self) -> str:
        while b"\n" not in self._answers:
            got = self._control.recv(4096)
            if not got:
                raise ConnectionResetError("it has ended")
            self._answers += got
            self._heard = time.monotonic()
        line, _, self._answers = self._answers.partition(b"\n")
        return line.decode()
