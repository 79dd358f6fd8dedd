"""How a gateway is started: what the command line, a test or a supervisor says, in one value."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vram.gateway.ledger import Ledger
from vram.gateway.limits import WireLimits

if TYPE_CHECKING:
    from collections.abc import Callable

    from vram.gateway.after import Begin, Listener
    from vram.gateway.assemble import Assembled, PoolPlan
    from vram.gateway.crew import Crew
    from vram.planner.plan import Plan
    from vram.readers.pools import PoolsFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a gateway is started.

    Attributes:
        pools: the pools file.
        read: gives pools and their plans in its place, whenever they are read; None: the file is read and planned.
        taken: told of pools as they are taken over, before any of their replicas is watched or asked.
        host: address to listen on; loopback unless said otherwise.
        port: port to listen on; 0 for a free one.
        store: file of keys and usage; None: neither is kept.
        keys_required: whether clients need a key; None: exactly when keys exist or the address is not loopback.
        offline: plan without a network.
        plan: the planner (tests give their own).
        listeners: who is told of ended requests, in a thread of their own.
        begin_span: begins the span of a request, which one of the listeners ends.
        admin_host: address of the administrators' door.
        admin_port: its port; 0 for a free one; None: there is none.
        admin_token: what they show.
        limits: bounds of a connection.
        ledger: where leases are written.
        crew: the other workers of this gateway; None: this process is all of it.
    """

    pools: Path
    read: "Callable[[], tuple[PoolsFile, dict[str, PoolPlan]]] | None" = None
    taken: "Callable[[Assembled], None] | None" = None
    host: str = "127.0.0.1"
    port: int = 8080
    store: Path | None = None
    keys_required: bool | None = None
    offline: bool | None = None
    plan: "Callable[..., Plan] | None" = None
    listeners: "tuple[Listener, ...]" = ()
    begin_span: "Begin | None" = None
    admin_host: str = "127.0.0.1"
    admin_port: int | None = None
    admin_token: str = ""
    limits: WireLimits = field(default_factory=WireLimits)
    ledger: Ledger = field(default_factory=Ledger)
    crew: "Crew | None" = None
