"""Pools whose GPUs are devices of RPC servers: which servers those are, their devices as a fleet, and a port for each engine."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from vram.errors import UsageError
from vram.hardware.fleet import Fleet
from vram.hardware.remote import Server, parse_servers, remote_of
from vram.readers.pools import Pool
from vram.runtime.choosing import Finder
from vram.runtime.engines.registry import program
from vram.runtime.remote import remote_fleet


def servers_of(pools: Sequence[Pool]) -> dict[str, Server]:
    """The servers that pools name, as they name them.

    Raises:
        UsageError: no address, or the ports of one are among those of another.
    """
    texts = tuple(dict.fromkeys(text.strip() for pool in pools for text in pool.rpc))
    return dict(zip(texts, parse_servers(texts), strict=True)) if texts else {}


def devices_for(pools: Sequence[Pool], finder: Finder) -> Fleet | None:
    """All devices that the servers of these pools show; None where no pool names any.

    Raises:
        UsageError: llama-server is not here, a pool is for another engine, a server has fewer ports than engines are to reach it.
        HardwareNotFoundError: a server does not answer.
    """
    servers, engine = servers_of(pools), program("llama-server")
    if not servers:
        return None
    for pool in pools:
        if pool.rpc and program(pool.engine.partition("@")[0]).name != engine.name:
            raise UsageError(f"pool {pool.name!r}: {pool.engine} knows no RPC servers", hint='they are llama.cpp\'s: engine = "llama.cpp", or leave rpc out')
    here = finder.find(engine)
    if here is None:
        raise UsageError(f"{engine.name} is not installed here", hint=engine.install)
    found: Fleet | None = None
    for text, server in servers.items():
        shown = remote_fleet((server,), here.program[0], models=sum(p.size for p in pools if text in map(str.strip, p.rpc)))
        found = shown if found is None else together(found, shown)
    return found


def together(first: Fleet, second: Fleet) -> Fleet:
    """The GPUs of two fleets as one, those of the first before those of the second."""
    more = tuple(replace(g, index=len(first) + n, host=len(first.hosts) + g.host) for n, g in enumerate(second.gpus))
    return Fleet(gpus=(*first.gpus, *more), hosts=(*first.hosts, *second.hosts), origin=first.origin, notes=(*first.notes, *second.notes))


@dataclass(slots=True)
class Doors:
    """Which port of each server the next engine gets."""

    fleet: Fleet
    _taken: dict[Server, int] = field(default_factory=dict)

    def take(self, pool: Pool) -> tuple[list[int], tuple[int, ...]]:
        """The devices of a pool by their place in the fleet, in the order of its servers; and for each server a port that is free, counted from its first."""
        servers = parse_servers(pool.rpc)
        ports = tuple(self._taken.get(s, 0) for s in servers)
        self._taken |= {s: port + 1 for s, port in zip(servers, ports, strict=True)}
        remotes = [remote_of(g) for g in self.fleet.gpus]
        return [i for s in servers for i, r in enumerate(remotes) if r is not None and r.server == s], ports
