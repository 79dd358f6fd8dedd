"""A lock between processes that a dead one cannot keep: POSIX' robust mutex in shared memory on Linux, a record lock on its file elsewhere.

A mutex that nobody holds is taken without asking the kernel; when its holder dies the kernel hands it on (pthread_mutexattr_setrobust(3)).
A record lock asks the kernel each time, and is let go with its process, too (fcntl(2)).
"""

import ctypes
import errno
import sys
from collections.abc import Callable
from typing import Any, Final

if sys.platform != "win32":
    import fcntl

MUTEX_BYTES: Final = 64
"""Room for a pthread_mutex_t: 40 bytes on x86-64, 48 on 64-bit ARM (glibc)."""
_ATTRIBUTE_BYTES: Final = 64


def make_lock(memory: Any, offset: int, descriptor: int, *, new: bool) -> tuple[Callable[[], None], Callable[[], None]]:
    """What takes the lock, and what lets it go. One thread of each process uses it.

    Args:
        memory: writable memory that all processes map.
        offset: where in it the lock has `MUTEX_BYTES` for itself.
        descriptor: of its file.
        new: whether the lock is to be made there; else another process made it.
    """
    made = _mutex(memory, offset, new=new) if sys.platform == "linux" else None
    return made or _record(descriptor)


def _mutex(memory: Any, offset: int, *, new: bool) -> tuple[Callable[[], None], Callable[[], None]] | None:
    library = ctypes.CDLL(None)
    try:
        lock, unlock, consistent = library.pthread_mutex_lock, library.pthread_mutex_unlock, library.pthread_mutex_consistent
        set_robust = library.pthread_mutexattr_setrobust
    except AttributeError:
        return None
    held = (ctypes.c_char * MUTEX_BYTES).from_buffer(memory, offset)
    mutex = ctypes.byref(held)
    if new:
        attributes = ctypes.create_string_buffer(_ATTRIBUTE_BYTES)
        if (
            library.pthread_mutexattr_init(attributes)
            or library.pthread_mutexattr_setpshared(attributes, 1)
            or set_robust(attributes, 1)
            or library.pthread_mutex_init(mutex, attributes)
        ):
            return None
    died = errno.EOWNERDEAD

    def take() -> None:
        found = lock(mutex)
        if found == died:
            # What its holder half wrote stands in rows of its own, and goes with them.
            consistent(mutex)
        elif found:
            raise OSError(found, "the workers' lock is broken")

    def give() -> None:
        unlock(mutex)

    return take, give


def _record(descriptor: int) -> tuple[Callable[[], None], Callable[[], None]]:
    def take() -> None:
        if sys.platform != "win32":
            fcntl.lockf(descriptor, fcntl.LOCK_EX)

    def give() -> None:
        if sys.platform != "win32":
            fcntl.lockf(descriptor, fcntl.LOCK_UN)

    return take, give
