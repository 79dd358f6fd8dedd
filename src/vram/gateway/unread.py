"""What lies unread in the kernel for a socket, without taking any of it."""

import os
import select
import socket
from typing import Any, Final

_POLL: Final[Any] = getattr(select, "poll", None)
"""Windows has none: there what waits unread is heard of a turn later."""


def poll_of(descriptor: int) -> Any:
    """What tells, by `poll(0)`, whether anything waits there, an end among it; None where there is no such thing."""
    if _POLL is None:
        return None
    made = _POLL()
    made.register(descriptor, select.POLLIN)
    return made


def has_bytes(descriptor: int) -> bool:
    """Whether bytes lie unread there, not only the connection's end. None is taken."""
    try:
        with socket.socket(fileno=os.dup(descriptor)) as sock:
            return bool(sock.recv(1, socket.MSG_PEEK))
    except OSError:
        return False
