"""asyncio's own loop over the gateway's sockets: the wait for something to happen is where clients and engines are served.

Interpreted, in contrast to `sockets.py`: asyncio's loop is a class to build on, and none of this runs once a request.
"""

import asyncio
import contextlib
import selectors
import time
from collections.abc import Mapping
from typing import Any

from vram.gateway.sockets import Sockets

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
IN, OUT = 1, 4
"""EPOLLIN and EPOLLOUT."""


class Selector(selectors.BaseSelector):
    """What asyncio watches, in the same epoll as the sockets."""

    def __init__(self, sockets: Sockets) -> None:
        self._sockets = sockets
        self._keys: dict[int, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Watch one more."""
        key = selectors.SelectorKey(fileobj, _number(fileobj), events, data)
        if key.fd in self._keys:
            raise KeyError(f"{fileobj!r} is watched already")
        self._sockets.epoll.register(key.fd, _asked(events))
        self._keys[key.fd] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Watch one less."""
        key = self._keys.pop(_number(fileobj))
        # It may have been closed before; with that the kernel forgot it.
        with contextlib.suppress(OSError):
            self._sockets.epoll.unregister(key.fd)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Watch it for something else."""
        before = self._keys[_number(fileobj)]
        if events != before.events:
            self._sockets.epoll.modify(before.fd, _asked(events))
        key = self._keys[before.fd] = before._replace(events=events, data=data)
        return key

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait, and serve the sockets meanwhile."""
        found = self._sockets.wait(-1 if timeout is None else max(timeout, 0))
        ready = []
        for fd, events in found:
            key = self._keys.get(fd)
            if key is not None:
                # An error or an end is for whoever reads or writes, as selectors.EpollSelector has it.
                ready.append((key, ((READ if events & ~OUT else 0) | (WRITE if events & ~IN else 0)) & key.events))
        return ready

    def close(self) -> None:
        """The loop ends."""
        self._keys.clear()
        self._sockets.close()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """What is watched, by descriptor."""
        return self._keys

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        """How something is watched."""
        return self._keys[_number(fileobj)]


def _number(fileobj: Any) -> int:
    found = fileobj if isinstance(fileobj, int) else fileobj.fileno()
    if found < 0:
        raise ValueError(f"{fileobj!r} is closed")
    return int(found)


def _asked(events: int) -> int:
    return (IN if events & READ else 0) | (OUT if events & WRITE else 0)


class Loop(asyncio.SelectorEventLoop):
    """An asyncio loop with `sockets`."""

    # A method of Python's own around it is asked several times a request.
    time = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self.sockets = Sockets()
        super().__init__(Selector(self.sockets))
        self.sockets.loop = self

    # Whoever asks for a turn while sockets are served gets one: the wait returns.

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:  # type: ignore[override]  # its type vars are its stub's
        """As asyncio's."""
        self.sockets.asked = True
        return super().call_soon(callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:  # type: ignore[override]  # the same
        """As asyncio's."""
        self.sockets.asked = True
        return super().call_at(when, callback, *args, context=context)
