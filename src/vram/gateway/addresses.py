"""Where replicas are: URLs of the pools file turned into addresses once, and the ones that no engine has refused.

Resolved when the file is read and pinned from then on, so that a name cannot be turned to another host while requests run. Link-local
addresses (where clouds keep the credentials of the machine) are refused, and so are unspecified, multicast and broadcast ones.
"""

import ipaddress
import re
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from vram.errors import UsageError

Resolve = Callable[[str, int], list[str]]

_METADATA = frozenset({"169.254.169.254", "fd00:ec2::254", "100.100.100.200", "168.63.129.16"})
"""Metadata services of AWS/GCP/Azure/OCI, of EC2 over IPv6, of Alibaba Cloud, and Azure's wire server."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")
_URL = re.compile(r"(https?)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?(/[!-~]*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where one replica listens.

    Attributes:
        url: as the pools file has it.
        host: an IP address.
        port: its port.
        prefix: path in front of `/v1`.
        tls: how to speak TLS to it; None: plain.
    """

    url: str
    host: str
    port: int
    prefix: str
    tls: ssl.SSLContext | None = None


def resolve(name: str, port: int) -> list[str]:
    """All addresses of a host, as the system resolves it.

    Raises:
        OSError: it does not resolve.
    """
    return list(dict.fromkeys(str(info[4][0]) for info in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)))


def address_of(url: str, look_up: Resolve = resolve) -> Address:
    """The address behind a replica's URL.

    Raises:
        UsageError: the URL is none, does not resolve, or leads where no engine is.
    """
    match = _URL.fullmatch(url)
    if match is None:
        raise UsageError(f"{url!r} is no base URL of an engine", hint="write http://HOST:PORT")
    secure = match[1] == "https"
    name, port, prefix = match[2].strip("[]"), int(match[3] or (443 if secure else 80)), match[4] or ""
    # Clients of an engine are told to write …/v1; its paths have it already.
    prefix = prefix.rstrip("/").removesuffix("/v1")
    try:
        found = look_up(name, port)
    except OSError as e:
        raise UsageError(f"{url}: {name} does not resolve: {e.strerror or e}", hint="is the name spelled right, and is its network up?") from None
    if not found:
        raise UsageError(f"{url}: {name} has no address", hint="give an address instead of a name")
    for address in found:
        ip = _meant(ipaddress.ip_address(address.partition("%")[0]))
        if str(ip) in _METADATA or ip.is_link_local or ip.is_multicast or ip.is_unspecified or str(ip) == "255.255.255.255":
            raise UsageError(f"{url} leads to {address}, where no engine is", hint="link-local, metadata, multicast and unspecified addresses are refused")
    return Address(url=url, host=found[0], port=port, prefix=prefix, tls=ssl.create_default_context() if secure else None)


def _meant(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IPv4 address that an IPv6 one stands for: mapped, compatible, 6to4, or behind the NAT64 of RFC 6052; else the address itself."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in _NAT64 or (ip in _COMPATIBLE and int(ip) > 1):
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip
