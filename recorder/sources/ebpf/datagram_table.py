"""Datagram flows over more than one turn of the kernel's maps: numbers, roles, pairs, and when a row is due.

What arrives are the counts of one turn; a flow has a place in one sorted array for as long as it is not idle.
"""

from __future__ import annotations

import numpy as np

from netrec.protocols import WITH_PORTS
from recorder.sources.ebpf import datagram_records as d
from recorder.sources.ebpf import records as r
from recorder.sources.ebpf.sampling import in_sample

_EPHEMERAL_LOW = 32768
_OWNER = ("cgroup", "pid", "uid", "comm", "owner_source")
_SEND, _UNKNOWN = r.OWNER_SOURCES.index("send"), r.OWNER_SOURCES.index("unknown")
# `flow` counts since the flow's last row; its `time` is the last packet's. `pair` and `mirror` are equal on the two
# ends of a flow on this host, crosswise.
_LIVE = np.dtype(
    [
        ("id", "u8"),
        ("flow", r.FLOW),
        ("since", "u8"),
        ("flow_id", "i8"),
        ("pair", "u8"),
        ("mirror", "u8"),
        ("rows", "u4"),
        ("duplicate", "?"),
    ]
)
# Moved as plain bytes: NumPy copies structs field by field.
_BYTES = np.dtype(f"V{_LIVE.itemsize}")


class DatagramTable:
    """Flows that are not idle yet, `limit` of them at most; `begun` (ns) is when the recording began."""

    def __init__(self, begun: int, idle_ns: int, limit: int, seed: int) -> None:
        self._begun, self._idle_ns, self._limit = begun, idle_ns, limit
        self._seed = np.uint64(seed)
        self._sampling = 1
        self._live = np.empty(0, _LIVE)

    def __len__(self) -> int:
        return len(self._live)

    def add(self, keys: np.ndarray, values: np.ndarray, first_id: int) -> int:
        """Count what one turn has counted; new flows are numbered from `first_id`. Returns how many were new."""
        turn = self._read(keys, values)
        _, once = np.unique(turn["id"], return_index=True)
        if len(once) < len(turn):  # a flow that several sockets share: one after the other
            order = np.argsort(values["first"], kind="stable")
            _, once = np.unique(turn["id"][order], return_index=True)
            again = np.delete(order, once)
            new = self.add(keys[order[once]], values[order[once]], first_id)
            return new + self.add(keys[again], values[again], first_id + new)
        position = np.minimum(np.searchsorted(self._live["id"], turn["id"]), max(len(self._live) - 1, 0))
        hit = self._live["id"][position] == turn["id"] if len(self._live) else np.zeros(len(turn), bool)
        if hit.any():
            self._count(position[hit], turn["flow"][hit])
        fresh = turn.view(_BYTES)[~hit].view(_LIVE)
        if len(fresh):
            fresh["flow_id"] = np.arange(first_id, first_id + len(fresh))
            self._orient(fresh, values["flags"][~hit])
            self._match(fresh)
            fresh = fresh.view(_BYTES)[np.argsort(fresh["id"])].view(_LIVE)
            places = np.searchsorted(self._live["id"], fresh["id"])
            self._live = np.insert(self._live.view(_BYTES), places, fresh.view(_BYTES)).view(_LIVE)
        return len(fresh)

    def sample(self, interval: int) -> np.ndarray:
        """From now on 1 in `interval` flows is counted: what was counted until now, of every flow that had packets.

        Flows that are not in the new sample leave, and are counted by those that are: their rows have the new weight.
        """
        found = self.due(0)
        self._sampling = interval
        self._live = self._live.view(_BYTES)[in_sample(self._live["flow"], interval)].view(_LIVE)
        self._live["flow"]["sampling"] = interval
        return found

    def due(self, active_ns: int) -> np.ndarray:
        """Flows with packets over at least half the active timeout since their last row; remain, counted from zero."""
        flow = self._live["flow"]
        span = flow["time"].astype(np.int64) - self._live["since"].astype(np.int64)
        chosen = (flow["segments_out"] + flow["segments_in"] > 0) & (span >= active_ns // 2)
        found = self._live[chosen]
        for name in ("sent", "received", "segments_out", "segments_in"):
            flow[name][chosen] = 0
        self._live["since"][chosen] = found["flow"]["time"]
        self._live["rows"][chosen] += 1
        return found

    def idle(self, now: int) -> np.ndarray:
        """Flows without a packet for the idle timeout; they leave."""
        return self._take(self._live["flow"]["time"].astype(np.int64) < now - self._idle_ns)

    def excess(self) -> np.ndarray:
        """When there are more than `limit`: those that have been silent longest; they leave."""
        over = len(self._live) - self._limit
        chosen = np.zeros(len(self._live), bool)
        if over > 0:
            leaving = over + self._limit // 16  # some more, so that not every call has to choose anew
            chosen[np.argpartition(self._live["flow"]["time"], leaving)[:leaving]] = True
        return self._take(chosen)

    def all(self) -> np.ndarray:
        """Every flow; they leave."""
        return self._take(np.ones(len(self._live), bool))

    def _take(self, chosen: np.ndarray) -> np.ndarray:
        if not chosen.any():
            return self._live[:0]
        found = self._live.view(_BYTES)[chosen].view(_LIVE)
        self._live = self._live.view(_BYTES)[~chosen].view(_LIVE)
        return found

    def _read(self, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
        turn = np.zeros(len(keys), _LIVE)
        flow = turn["flow"]
        for name in ("local", "remote", "local_port", "remote_port", "protocol"):
            flow[name] = keys[name]
        for name in ("sent", "received", "netns", *_OWNER):
            flow[name] = values[name]
        flow["segments_out"], flow["segments_in"] = values["packets_sent"], values["packets_received"]
        flow["start"] = turn["since"] = values["first"]
        flow["time"] = values["last"]
        flow["sampling"] = self._sampling
        turn["pair"] = self._hash(flow, keys["type"], "local", "remote")
        turn["mirror"] = self._hash(flow, keys["type"], "remote", "local")
        turn["id"] = flow["id"] = _mix(turn["pair"], flow["netns"].astype(np.uint64))
        return turn

    def _hash(self, flow: np.ndarray, kind: np.ndarray, one: str, other: str) -> np.ndarray:
        ends = [np.ascontiguousarray(flow[name]).view(np.uint64).reshape(-1, 2) for name in (one, other)]
        ports = flow[f"{one}_port"].astype(np.uint64) << np.uint64(16) | flow[f"{other}_port"]
        numbers = ports << np.uint64(16) | kind.astype(np.uint64) << np.uint64(8) | flow["protocol"]
        found = _mix(np.full(len(flow), self._seed), numbers)
        for words in ends:
            found = _mix(_mix(found, words[:, 0]), words[:, 1])
        return found

    def _count(self, at: np.ndarray, flow: np.ndarray) -> None:
        known = self._live["flow"]
        for name in ("sent", "received", "segments_out", "segments_in"):
            known[name][at] += flow[name]
        known["time"][at] = np.maximum(known["time"][at], flow["time"])
        # Who sends is better known than who made the socket.
        better = (flow["owner_source"] == _SEND) & (known["owner_source"][at] != _SEND)
        better |= (flow["owner_source"] != _UNKNOWN) & (known["owner_source"][at] == _UNKNOWN)
        for name in _OWNER:
            known[name][at[better]] = flow[name][better]

    def _orient(self, fresh: np.ndarray, flags: np.ndarray) -> None:
        """Who sent first is the client; where the socket was there before the recording, a port may tell better."""
        flow = fresh["flow"]
        client = flags & d.SENT_FIRST != 0
        early = (flags & d.NEW_SOCKET == 0) & (flow["start"] < self._begun + self._idle_ns)
        low, other_low = flow["local_port"] < _EPHEMERAL_LOW, flow["remote_port"] < _EPHEMERAL_LOW
        telling = early & (low != other_low) & np.isin(flow["protocol"], WITH_PORTS)
        client = np.where(telling, other_low, client)
        flow["role"] = np.where(client, r.ROLE_CLIENT, r.ROLE_SERVER)
        flow["flags"] = np.where(early, r.FLAG_ROLE_INFERRED, 0)
        flow["start"][early] = 0  # it may have begun before the recording

    def _match(self, fresh: np.ndarray) -> None:
        """The two ends of a flow on this host: one is the client's, and the server's row repeats its bytes."""
        known = len(self._live)
        pairs = np.concatenate([self._live["pair"], fresh["pair"]])
        roles = np.concatenate([self._live["flow"]["role"], fresh["flow"]["role"]])
        order = np.argsort(pairs)
        at = order[np.minimum(np.searchsorted(pairs, fresh["mirror"], sorter=order), len(pairs) - 1)]
        local = (pairs[at] == fresh["mirror"]) & (fresh["pair"] != fresh["mirror"])
        opposite = np.where(roles[at] == r.ROLE_CLIENT, r.ROLE_SERVER, r.ROLE_CLIENT)
        undecided = np.where(fresh["pair"] < fresh["mirror"], r.ROLE_CLIENT, r.ROLE_SERVER)
        role = fresh["flow"]["role"]
        agreed = np.where(at < known, opposite, np.where(roles[at] == role, undecided, role))
        role = fresh["flow"]["role"] = np.where(local, agreed, role)
        fresh["duplicate"] = local & (role == r.ROLE_SERVER)
        others = at[local & (at < known)]
        self._live["duplicate"][others] = self._live["flow"]["role"][others] == r.ROLE_SERVER


def _mix(found: np.ndarray, word: np.ndarray) -> np.ndarray:
    mixed = (found ^ word) * np.uint64(0xFF51AFD7ED558CCD)
    return mixed ^ mixed >> np.uint64(32)
