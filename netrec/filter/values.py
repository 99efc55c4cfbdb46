"""Words of a filter -> addresses, networks, ports, numbers and owners.

Each function raises `ValueError` that says in words what was expected; the parser adds the place.
"""

from __future__ import annotations

import pwd
import re
import socket
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Network, NetmaskValueError, ip_address

from netrec.filter.nodes import Network, OwnerKind
from netrec.protocols import TRANSPORT_NUMBERS

PORT_PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
# The kernel keeps 15 bytes of a process name.
PROCESS_NAME_BYTES = 15


def host(word: str, version: int | None) -> tuple[Network, ...]:
    """The addresses of a host, as networks of one address; a name is looked up now, as tcpdump does."""
    if "/" in word:
        raise ValueError(f"host takes one address, {word!r} is a network: write net {word}")
    try:
        address = ip_address(word)
    except ValueError:
        if re.fullmatch(r"[\d.]+|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*", word):
            raise ValueError(f"expected an IPv4 or IPv6 address or a host's name, not {word!r}") from None
        return _named_host(word, version)
    _check_version(address.version, version, word)
    return (IPv4Network(address) if isinstance(address, IPv4Address) else IPv6Network(address),)


def _named_host(name: str, version: int | None) -> tuple[Network, ...]:
    families = {4: socket.AF_INET, 6: socket.AF_INET6, None: socket.AF_UNSPEC}
    try:
        answers = socket.getaddrinfo(name, None, families[version], socket.SOCK_STREAM)
    except (OSError, UnicodeError) as problem:
        raise ValueError(f"the host name {name!r} cannot be looked up ({problem})") from None
    addresses = sorted({str(answer[4][0]).partition("%")[0] for answer in answers})
    return tuple(network for address in addresses for network in host(address, version))


def network(word: str, mask: str | None, version: int | None) -> Network:
    """`10`, `192.168.1`, `10.0.0.0/8`, `10.0.0.0` with mask `255.0.0.0`, `2001:db8::/32`.

    Without a prefix length or mask IPv4 takes as many octets as are written, IPv6 all 128 bits (tcpdump's rule).
    """
    address, slash, length = word.partition("/")
    if mask is not None and (slash or ":" in word):
        raise ValueError("mask goes with an IPv4 network that has no /length")
    if ":" in address:
        _check_version(6, version, word)
        return _checked(IPv6Network, address, length if slash else "128", word)
    octets = address.split(".")
    if not re.fullmatch(r"\d{1,3}(\.\d{1,3}){0,3}", address):
        raise ValueError(f"expected a network such as 10.0.0.0/8, 192.168.1 or 2001:db8::/32, not {word!r}")
    _check_version(4, version, word)
    whole = ".".join(octets + ["0"] * (4 - len(octets)))
    return _checked(IPv4Network, whole, mask or (length if slash else str(8 * len(octets))), word)


def _checked(kind: type[IPv4Network] | type[IPv6Network], address: str, length: str, word: str) -> Network:
    try:
        loose = kind(f"{address}/{length}", strict=False)
    except NetmaskValueError:
        raise ValueError(f"{length!r} is no prefix length or contiguous mask of {address}") from None
    except AddressValueError as problem:
        raise ValueError(f"{word!r} is no network ({problem})") from None
    except ValueError:
        raise ValueError(f"{word!r} is no network") from None
    if kind is IPv4Network and "." in length and str(loose.netmask) != length:
        # The standard library also takes a host mask (0.0.0.255), which tcpdump does not.
        raise ValueError(f"{length!r} is no contiguous mask")
    if loose.network_address != kind(address).network_address:
        raise ValueError(f"{word!r} has bits set beyond its mask: the network is {loose}")
    return loose


def _check_version(given: int, wanted: int | None, word: str) -> None:
    if wanted is not None and given != wanted:
        raise ValueError(f"{word!r} is IPv{given}, but {'ip' if wanted == 4 else 'ip6'} asks for IPv{wanted}")


def port(word: str, protocols: tuple[int, ...]) -> int:
    """A port number, or a name of /etc/services that is one of the protocols'."""
    number = _number(word)
    if number is not None:
        if number > 65535:
            raise ValueError(f"a port is at most 65535, not {word}")
        return number
    found = set()
    for name, protocol in PORT_PROTOCOLS.items():
        if protocol in protocols:
            try:
                found.add(socket.getservbyname(word, name))
            except (OSError, UnicodeError, ValueError):
                continue
    if not found:
        raise ValueError(f"expected a port number or a name of /etc/services, not {word!r}")
    if len(found) > 1:
        raise ValueError(f"{word!r} names different ports of tcp and udp: write tcp or udp before port")
    return found.pop()


def port_range(word: str, protocols: tuple[int, ...]) -> tuple[int, int]:
    """`6000-6008`, also of names (`http-https`); one port is a range too. In either order, as with tcpdump."""
    # A service's name may hold dashes itself: the dash that splits the word into two ports is the range's.
    splits = [index for index, character in enumerate(word) if character == "-"]
    for index in splits:
        try:
            ends = sorted((port(word[:index], protocols), port(word[index + 1 :], protocols)))
        except ValueError:
            continue
        return ends[0], ends[1]
    if len(splits) == 1 and _number(word[: splits[0]]) is not None:
        port(word[: splits[0]], protocols)  # says what is wrong
        port(word[splits[0] + 1 :], protocols)
    try:
        single = port(word, protocols)
    except ValueError:
        raise ValueError(f"expected a range of ports such as 6000-6008, not {word!r}") from None
    return single, single


def protocol(word: str) -> int:
    """An IP protocol number, or its name in the trace or in /etc/protocols."""
    number = _number(word)
    if number is None:
        number = TRANSPORT_NUMBERS.get(word)
    if number is None:
        try:
            number = socket.getprotobyname(word)
        except (OSError, UnicodeError, ValueError):
            raise ValueError(f"expected an IP protocol's number or name, not {word!r}") from None
    if number > 255:
        raise ValueError(f"an IP protocol number is at most 255, not {word}")
    return number


def owner(kind: str, word: str) -> tuple[OwnerKind, str | int]:
    """The kind of owner to compare and its value; a user's name becomes its uid, `nginx` the unit nginx.service."""
    match kind:
        case "pid" | "uid":
            number = _number(word)
            # The kernel has no process 0 that owns sockets, and its largest uid means "unknown".
            if number is None or number >= 0xFFFFFFFF or (kind == "pid" and not number):
                raise ValueError(f"expected a {kind} (a whole number), not {word!r}")
            return ("pid" if kind == "pid" else "uid"), number
        case "user":
            return "uid", _user(word)
        case "process":
            if not word:
                raise ValueError("expected the name of a process, not an empty one")
            return "process", word.encode(errors="surrogateescape")[:PROCESS_NAME_BYTES].decode(errors="replace")
        case "cgroup":
            number = _number(word)
            if number is None and not word.startswith("/"):
                raise ValueError(f"expected a path that starts with / (or the number of a cgroup), not {word!r}")
            return "cgroup", ("/" + word.strip("/")) if number is None else number
        case "container":
            if not re.fullmatch(r"[0-9a-f]{4,64}", word):
                raise ValueError(f"expected a container's id, at least its first 4 hexadecimal digits, not {word!r}")
            return "container", word
        case "unit":
            return "unit", word if re.search(r"\.[a-z]+$", word) else f"{word}.service"
    raise AssertionError(kind)


def _user(word: str) -> int:
    number = _number(word)
    if number is not None:
        return number
    try:
        return pwd.getpwnam(word).pw_uid
    except (KeyError, ValueError):
        raise ValueError(f"there is no user {word!r} on this host: write uid and the number") from None


def _number(word: str) -> int | None:
    """Decimal or 0x hexadecimal; a leading zero is refused, because C reads it as octal and people do not."""
    if re.fullmatch(r"0[xX][0-9a-fA-F]+", word):
        return int(word, 16)
    if not re.fullmatch(r"[0-9]+", word):
        return None
    if len(word) > 1 and word.startswith("0"):
        raise ValueError(f"{word!r} is ambiguous: write the number without a leading zero")
    return int(word)
