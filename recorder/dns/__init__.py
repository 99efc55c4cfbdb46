"""Names from the DNS answers that a host receives, and how long they took or how they failed.

    packet.py     an IP packet -> conversation, direction, payload
    message.py    bytes -> a DNS message; every bound that hostile bytes can reach
    framing.py    TCP segments -> DNS messages
    names.py      address -> the name that was asked for, for as long as the answer lives
    observer.py   queries matched with their answers: names, and events with latency and failures

A source hands every captured payload to `DnsObserver.observe`, and asks `DnsObserver.names_for` when it writes flows.
"""
