"""The eleven patterns. Their measurements are those that `analyze.incident` takes; thresholds are the specification's.

Every name ending in `_before` is the same measurement in the baseline window.
"""

from __future__ import annotations

from analyze.statistics.capacity import churn_ceiling
from analyze.statistics.patterns import Pattern, Signal, all_of, any_of, at_least, at_most, not_risen, risen

STALLED_ROWS = 5  # an idle connection or two is no stall
# A full accept queue drops SYNs and the data behind them, of many clients at once: those are no losses of a path.
NO_OVERFLOW = Signal("no listen queue overflowed", not_risen("listen_overflows", 3, 5), vital=True, weight=0.5)

ACCEPT_QUEUE = Pattern(
    "accept-queue",
    "accept-queue overflow",
    (
        Signal(
            "listen queue overflowed",
            any_of(risen("listen_overflows", 3, 1), risen("listen_queue_share", 1.1, 1.0)),
        ),
        Signal(
            "connects took 1, 3 or 7 s (a SYN was dropped and sent again)",
            risen("retry_connect_share", 4, 0.02),
            vital=True,
        ),
        Signal("on one server port", at_least("retry_top_server_share", 0.8), vital=True),
    ),
    "raise the listener's backlog and net.core.somaxconn, or find why the server accepts too slowly",
    ("connect_failure_ratio", "connect_latency"),
)
EPHEMERAL_PORTS = Pattern(
    "ephemeral-ports",
    "ephemeral-port exhaustion",
    (
        Signal(
            "ephemeral ports nearly all used, or new connections to one server beyond the ceiling",
            any_of(at_least("ephemeral_share", 0.90), at_least("pair_connect_rate", churn_ceiling())),
            vital=True,
        ),
        Signal("connects failed here, before a SYN was sent", risen("local_failure_share", 3, 0.01), vital=True),
    ),
    "reuse connections, spread over more destinations or source addresses, or widen net.ipv4.ip_local_port_range",
    ("connect_failure_ratio",),
)
CONNTRACK = Pattern(
    "conntrack",
    "connection-tracking table full",
    (
        Signal(
            "conntrack table full, with drops",
            all_of(
                at_least("conntrack_share", 0.95),
                any_of(at_least("conntrack_drops", 1), at_least("conntrack_share", 0.999)),
            ),
            vital=True,
        ),
        Signal("new connections fail", risen("connect_failure_share", 3, 0.05), vital=True),
        Signal("on all ports", at_least("failing_port_share", 0.6)),
        Signal("established connections are fine", at_least("established_rate_ratio", 0.5)),
    ),
    "raise net.netfilter.nf_conntrack_max, shorten its timeouts, or exempt the busiest service from tracking",
    ("connect_failure_ratio",),
)
RETRANSMIT_STORM = Pattern(
    "retransmit-storm",
    "retransmit storm",
    (
        Signal("the retransmit ratio rose", risen("retransmit_ratio", 3, 0.01), vital=True, weight=1.5),
        Signal(
            "on one path, or with drops in the host's packet queue",
            any_of(at_least("retransmit_top_path_share", 0.7), risen("softnet_drops", 3, 10)),
        ),
        Signal("flows of every size are hit", at_most("large_only_loss", 0.5), vital=True),
        Signal("not many senders at once into one receiver", at_most("incast_sources", 11), vital=True),
        NO_OVERFLOW,
    ),
    "look at the path's interfaces and queues for drops and errors",
    ("retransmit_ratio",),
)
RST_SPIKE = Pattern(
    "rst-spike",
    "reset spike",
    (
        Signal(
            "connections were reset or refused",
            any_of(risen("refused_share", 3, 0.03), risen("reset_share", 3, 0.05)),
            vital=True,
            weight=1.5,
        ),
        Signal("on one server", at_least("reset_top_server_share", 0.7)),
    ),
    "see whether the service was restarting, crashed, or a middlebox timed it out",
    ("reset_share", "connect_failure_ratio"),
)
ZERO_WINDOW = Pattern(
    "zero-window",
    "receiver stopped reading (zero window)",
    (
        Signal(
            "bytes stopped while connections stayed open",
            all_of(risen("stalled_share", 3, 0.2), at_least("stalled_rows", STALLED_ROWS)),
            vital=True,
        ),
        Signal("the receiver announced a zero window", risen("zero_windows", 3, 1), vital=True),
        Signal("no retransmits", not_risen("retransmit_ratio", 1.5, 0.01), vital=True),
        Signal("the minimum round-trip time is unchanged", at_most("rtt_min_ratio", 1.3)),
    ),
    "the receiving process is blocked: look at its CPU, locks and disk",
    ("silent_share", "byte_rate"),
)
MTU_BLACK_HOLE = Pattern(
    "mtu-black-hole",
    "MTU black hole",
    (
        Signal(
            "large flows are sent again, then time out", risen("large_failure_share", 3, 0.2), vital=True, weight=1.5
        ),
        Signal("small flows are fine", not_risen("small_failure_share", 2.0, 0.05), vital=True),
        Signal("connects succeed", not_risen("connect_failure_share", 1.5, 0.05)),
    ),
    "let ICMP 'fragmentation needed' through, or clamp the MSS on the tunnel",
    ("timeout_share", "retransmit_ratio"),
)
INCAST = Pattern(
    "incast",
    "incast",
    (
        Signal(
            "many sources lose packets to one destination at once",
            risen("incast_sources", 2, 12),
            vital=True,
            weight=1.5,
        ),
        # So many senders at once are telling by themselves: the losses are few among all of the host's packets.
        Signal("the retransmit ratio rose", risen("retransmit_ratio", 3, 0.001), vital=True),
        Signal("most of the retransmits go to that destination", at_least("incast_destination_share", 0.7)),
        Signal("the link's mean utilisation is below half", at_most("link_utilisation", 0.5)),
        NO_OVERFLOW,
    ),
    "spread the requests in time or limit the answers' size; look at the switch port's buffer",
    ("retransmit_ratio",),
)
DNS = Pattern(
    "dns",
    "DNS failure",
    (
        Signal("answers from port 53 fell away", risen("dns_unanswered_share", 3, 0.3), vital=True, weight=1.5),
        Signal("other connects fell", at_most("other_connect_rate_ratio", 0.7)),
        Signal("they fell after the answers", at_least("dns_lead_seconds", 0.0)),
    ),
    "check the resolver and the path to it",
    ("dns_unanswered",),
)
CHURN = Pattern(
    "churn",
    "connection churn",
    (
        Signal("new connections per second rose", risen("flow_rate", 2, 1.0), vital=True),
        Signal("bytes per connection fell", at_most("bytes_per_flow_ratio", 0.6), vital=True),
        Signal("the connections still succeed", not_risen("connect_failure_share", 1.5, 0.05)),
    ),
    "a client has lost its connection pool or keep-alive: see who opens the connections",
    ("flow_rate",),
)
ELEPHANT = Pattern(
    "elephant",
    "elephant flow",
    (
        Signal("the largest flow's share of the bytes jumped", at_least("top_flow_share_gain", 0.3), vital=True),
        Signal("bytes per second rose", risen("byte_rate", 1.5, 1.0), vital=True),
        Signal("new connections per second did not", at_most("flow_rate_ratio", 1.5)),
    ),
    "find the copy that this is, and shape or move it",
    ("byte_rate",),
)
ASYMMETRIC_PATH = Pattern(
    "asymmetric-path",
    "asymmetric path",
    (
        Signal("completed flows show packets of one side only", risen("one_way_share", 3, 0.2), vital=True),
        Signal("they did complete: failures did not rise", not_risen("connect_failure_share", 1.5, 0.05), vital=True),
    ),
    "packets return by another way: compare the routes of both directions",
    ("one_way_share",),
)
PATTERNS: tuple[Pattern, ...] = (
    ACCEPT_QUEUE,
    EPHEMERAL_PORTS,
    CONNTRACK,
    RETRANSMIT_STORM,
    RST_SPIKE,
    ZERO_WINDOW,
    MTU_BLACK_HOLE,
    INCAST,
    DNS,
    CHURN,
    ELEPHANT,
    ASYMMETRIC_PATH,
)
