"""Devices of llama.cpp's RPC servers, as an operator names them and as a fleet keeps them. Nobody is asked here."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from vram.errors import UsageError, printable
from vram.hardware.fleet import FleetGpu

REMOTE_VENDOR: Final = "rpc"
"""Vendor of a device that an RPC server shows: what is behind it, it does not say."""
MOST_SERVERS: Final = 16
"""GGML_RPC_MAX_SERVERS (ggml-rpc.h)."""
MOST_PORTS: Final = 64
_SERVER: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,252}):(\d{1,5})(?:-(\d{1,5}))?")
_IDENTIFIER: Final = re.compile(rf"({_SERVER.pattern}) device (\d{{1,4}}) of (\d{{1,4}})")
_HINT: Final = "as llama.cpp takes them: --rpc 192.168.1.5:50052; a range of ports where several engines are to share the device: 192.168.1.5:50052-50054"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """An RPC server, or several of them that show the same devices, one port beside the other.

    A server answers one engine for as long as that is connected, and lets all others wait (ggml-org/llama.cpp#28908): the first model gets the
    first port, the second one the second.
    """

    host: str
    first: int
    last: int

    def __str__(self) -> str:
        """As it is typed."""
        return f"{self.host}:{self.first}" + (f"-{self.last}" if self.last > self.first else "")

    @property
    def doors(self) -> int:
        """Engines that it answers at the same time."""
        return self.last - self.first + 1

    def address(self, door: int) -> str:
        """Where the engine of that number (from 0 on) reaches it."""
        return f"{self.host}:{self.first + door}"

    def listens(self, address: str) -> bool:
        """Whether that is one of its addresses."""
        host, _, port = address.rpartition(":")
        return host == self.host and port.isdecimal() and self.first <= int(port) <= self.last


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """One device of a server: the `place`-th (from 0 on) of `of`."""

    server: Server
    place: int = 0
    of: int = 1

    @property
    def identifier(self) -> str:
        """As a fleet keeps it (`FleetGpu.identifier`)."""
        return f"{self.server} device {self.place} of {self.of}"


def remote_of(gpu: FleetGpu) -> Remote | None:
    """The device that a member of a fleet is; None where it is a GPU of this machine."""
    found = _IDENTIFIER.fullmatch(gpu.identifier) if gpu.gpu.vendor == REMOTE_VENDOR else None
    return None if found is None else Remote(server=_server(found[1]), place=int(found[5]), of=int(found[6]))


def called(gpu: FleetGpu) -> str:
    """A member of a fleet, for people: its kind, and where it is served if it is elsewhere."""
    remote = remote_of(gpu)
    if remote is None:
        return gpu.gpu.name
    return f"{gpu.gpu.name} {remote.server}" + (f" {remote.place}" if remote.of > 1 else "")


def parse_servers(texts: Iterable[str]) -> tuple[Server, ...]:
    """`HOST:PORT` or `HOST:PORT-PORT`, several with commas between.

    Raises:
        UsageError: no address, one that stands twice, more than llama.cpp takes.
    """
    found: list[Server] = []
    for text in (word.strip() for given in texts for word in given.split(",")):
        server = _server(text)
        if any(server.host == other.host and server.first <= other.last and other.first <= server.last for other in found):
            raise UsageError(f"{server} stands twice", hint="each server once: an engine that reaches one twice waits for itself")
        found.append(server)
    if len(found) > MOST_SERVERS:
        raise UsageError(f"{len(found)} RPC servers", hint=f"llama.cpp takes {MOST_SERVERS} at most")
    return tuple(found)


def _server(text: str) -> Server:
    match = _SERVER.fullmatch(text)
    first = int(match[2]) if match else 0
    last = int(match[3] or first) if match else 0
    if match is None or not 1 <= first <= last <= 65535 or last - first >= MOST_PORTS:
        raise UsageError(f"{printable(text, 80)!r} is no address of an RPC server", hint=_HINT)
    return Server(host=match[1], first=first, last=last)


def reached(remotes: Sequence[Remote], door: int, doors: Sequence[int] = ()) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The addresses that an engine is given, and the names that it then has for these devices.

    `door` is its port of each server, counted from the first one; `doors`: one for each server, in the order of their devices.

    llama.cpp numbers the devices of all servers in their order, `RPC0` on (ggml_backend_rpc_add_server).
    """
    servers: dict[Server, int] = {}
    for r in remotes:
        servers.setdefault(r.server, r.of)
    starts, number = {}, 0
    for server, devices in servers.items():
        starts[server] = number
        number += devices
    return tuple(s.address(doors[i] if doors else door) for i, s in enumerate(servers)), tuple(f"RPC{starts[r.server] + r.place}" for r in remotes)
