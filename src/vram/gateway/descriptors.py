"""The descriptors that this process may hold: how it comes to as many as the system lets it, and how it is told that it has none left.

Each client and each request of one takes a descriptor. Many systems let a process begin with 1,024 and take more when it asks for them.
"""

import errno
from typing import Final

MOST: Final = 2**20
"""What is asked for where the system sets no bound: some containers are let have a billion."""
_STEPS: Final = (MOST, 2**16, 10_240)
"""Tried in turn: macOS promises more than it gives."""

FULL: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Errors that say: this process, or this machine, has no descriptor or no memory left for a socket."""
OWN: Final = FULL | {errno.EADDRNOTAVAIL}
"""Errors of a connection that was never begun, for want of something here; the last one is of ports (and of addresses that cannot be)."""

_began_with: int | None = None


def raise_limit() -> None:
    """Take as many descriptors as this process may have, `MOST` at most. Where that is not permitted, it stays as it is."""
    global _began_with  # noqa: PLW0603  (of the process, as the limit is)
    try:
        import resource  # noqa: PLC0415  (Windows has none)
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for step in _STEPS:
        wanted = step if hard == resource.RLIM_INFINITY else min(step, hard)
        if soft == resource.RLIM_INFINITY or wanted <= soft:
            return
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (ValueError, OSError):
            continue
        if _began_with is None:
            _began_with = soft
        return


def began_with() -> int | None:
    """The limit that this process was started with, where it raised it: what it starts for others is to get that one."""
    return _began_with
