"""Whether a gateway's ports are free: both are asked about before anything starts, and whatever hinders is told at once."""

import errno
import os
import socket
import sys
from typing import Final

from vram.errors import UsageError

LOOKS: Final = 20
"""Ports that are tried for one to suggest."""


def check_ports(host: str, port: int, admin_host: str, admin_port: int) -> None:
    """Refuse to begin where clients or administrators could not come.

    Args:
        host: address that clients reach.
        port: theirs; 0 for a free one.
        admin_host: address that administrators reach.
        admin_port: theirs; 0 for none.

    Raises:
        UsageError: a port is taken, may not be had or is asked for twice, or an address is not this machine's.
    """
    asked = [("--port", "clients", host, port), ("--admin-port", "administrators", admin_host, admin_port)]
    if port and port == admin_port and host == admin_host:
        raise UsageError(f"--port and --admin-port are both {port}", hint="administrators have a port of their own, or none: --admin-port 0")
    troubles = [(*one, e) for one in asked if one[3] and (e := hindrance(one[2], one[3])) is not None]
    if not troubles:
        return
    told = "; ".join(f"{address(where, number)} for {whom}: {e.strerror or e}" for _, whom, where, number, e in troubles)
    taken = [(flag, where, number) for flag, _, where, number, e in troubles if e.errno == errno.EADDRINUSE]
    if len(taken) < len(troubles):
        kinds = {e.errno for *_, e in troubles}
        hint = "ports below 1024 are the system's: choose a higher one" if errno.EACCES in kinds else "give an address of this machine: --host 127.0.0.1"
    else:
        used = {number for *_, number in asked}
        words = [f"{flag} {_free(where, number, used)}" for flag, where, number in taken]
        hint = f"is another vram running? vram ps shows what vram up runs, vram top a gateway; choose {'another port' if len(words) == 1 else 'other ports'}: {' '.join(words)}"
    raise UsageError(f"cannot listen on {told}", hint=hint)


def address(host: str, port: int) -> str:
    """Both as in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def hindrance(host: str, port: int) -> OSError | None:
    """What keeps this process from listening there; None: nothing does."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as e:
        return e
    for family, kind, protocol, _, place in found:
        try:
            one = socket.socket(family, kind, protocol)
        except OSError:
            # A name may have an address of a kind that this machine has not: others are served.
            continue
        with one:
            if sys.platform != "win32":
                # As servers do: connections of the past are no hindrance, who listens is.
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                one.bind(place)
                one.listen(1)
            except OSError as e:
                # Python adds the address to the system's words.
                return OSError(e.errno, os.strerror(e.errno)) if e.errno else e
    return None


def _free(host: str, port: int, used: set[int]) -> int:
    """A port near this one that is free and that nobody else is told of."""
    for other in range(port + 1, min(port + 1 + LOOKS, 65536)):
        if other not in used and hindrance(host, other) is None:
            used.add(other)
            return other
    return 0
