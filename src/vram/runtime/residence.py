"""Models on demand: loaded when they are asked for, unloaded for others by turns. What to do is `admission.residency`'s to say; here it is done.

A request for a model that is not loaded waits in the gateway's queue, with its deadline, until the model is there. Nobody's stream is cut
off: a model that is to go takes no new requests – they wait, too – and goes when it has answered what it runs.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from vram.admission.residency import Close, Load, Never, Resident, TurnRules, Unload, Wanted, next_step
from vram.errors import VramError
from vram.runtime.placing import Placed
from vram.runtime.together import gpu_bytes
from vram.runtime.unit import State, Unit
from vram.units import gib

if TYPE_CHECKING:
    from vram.admission.line import Line

log = logging.getLogger("vram.runtime")

LOOK_SECONDS: Final = 0.1
"""How often it is looked whether something is to be done, while anybody waits or is to go."""
REST_SECONDS: Final = 0.2
"""How often otherwise: nobody tells when a request begins to wait."""
NEVER_SECONDS: Final = 10.0
"""For so long requests of a model that fits beside what must stay in no way are refused, before it is looked again."""
RATE_SPREAD: Final = 0.1
"""How far one second moves the rate at which a model is asked for, towards that second's."""
UNKNOWN_LOAD_SECONDS: Final = 10.0
"""What loading is taken to cost before it was done once."""
LOADED: Final = frozenset({State.STARTING, State.PROVING, State.READY, State.WAITING, State.ENDING})
"""States in which a unit holds memory, or is about to."""


class Keeper(Protocol):
    """What residence needs of the supervisor."""

    @property
    def units(self) -> Mapping[str, Unit]:
        """All units, by name."""

    def line(self, name: str) -> "Line | None":
        """The requests that wait for a unit."""

    def waited(self, name: str) -> float:
        """Seconds that the oldest of them has waited."""

    def running(self, name: str) -> int:
        """Requests that a unit answers now."""

    def ended(self, name: str) -> int:
        """Requests of a unit that have ended since the beginning."""

    def serves(self, unit: Unit, *, ready: bool) -> None:
        """Let the gateway send it requests, or have them wait."""

    def load(self, unit: Unit, placed: Placed) -> Awaitable[bool]:
        """Start it so; whether it is ready."""

    def unload(self, unit: Unit) -> Awaitable[None]:
        """End it; it may come back."""


@dataclass(slots=True)
class Use:
    """How much a unit is asked for, and what its comings and goings cost so far."""

    used_at: float
    known: int = 0
    per_second: float = 0.0
    load_seconds: float = UNKNOWN_LOAD_SECONDS
    ready_at: float | None = None
    not_before: float = 0.0
    never_until: float = 0.0
    loads: int = 0
    evictions: int = 0
    loading_seconds: float = 0.0


class Residence:
    """Which units are loaded.

    Attributes:
        capacity: bytes of each GPU that are ours now.
        uses: by unit.
    """

    def __init__(
        self,
        keeper: Keeper,
        ways: Mapping[str, Sequence[Placed]],
        capacity: tuple[int, ...],
        *,
        rules: TurnRules | None = None,
        pinned: frozenset[str] = frozenset(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.keeper = keeper
        self.capacity = capacity
        self.rules = rules or TurnRules()
        self._ways = ways
        self._pinned = pinned
        self._clock = clock
        now = clock()
        self.uses = {name: Use(used_at=now) for name in ways}
        self._closed: frozenset[str] = frozenset()
        self._going: set[str] = set()
        self._coming: dict[str, tuple[int, ...]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._looked_at = now

    async def run(self) -> None:
        """Look and act until cancelled; then all that was begun is over."""
        try:
            while True:
                try:
                    busy = self.look()
                except Exception:
                    # A defect here must not leave requests waiting for ever.
                    log.exception("models on demand")
                    busy = False
                await asyncio.sleep(LOOK_SECONDS if busy else REST_SECONDS)
        finally:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def loaded(self, name: str, seconds: float) -> None:
        """A unit was loaded at the start, in that time."""
        use = self.uses[name]
        use.loads, use.load_seconds = use.loads + 1, seconds

    def open(self, name: str) -> bool:
        """Whether a unit may take new requests: it is not about to make room."""
        return name not in self._closed and name not in self._going

    def never(self, name: str) -> bool:
        """Whether requests for a unit need not wait: it was found to fit beside what must stay in no way."""
        return self._clock() < self.uses[name].never_until

    def held(self) -> tuple[int, ...] | None:
        """What the loaded units hold of each GPU by their plans; None while any comes or goes, and nobody can tell."""
        units = [u for u in self.keeper.units.values() if self._holds(u)]
        if self._tasks or any(u.state is not State.READY for u in units):
            return None
        each = [gpu_bytes(u.placed, len(self.capacity)) for u in units]
        return tuple(sum(e[g] for e in each) for g in range(len(self.capacity)))

    # --- looking

    def look(self) -> bool:
        """One look: what is to be done now is begun. Returns whether anybody waits for a model, or is to go."""
        now = self._clock()
        self._measure(now)
        for name, use in self.uses.items():
            if 0.0 < use.never_until <= now:
                use.never_until = 0.0
                if self.keeper.units[name].state is State.ASLEEP:
                    self.keeper.serves(self.keeper.units[name], ready=False)
        residents = [self._resident(u, now) for u in self.keeper.units.values() if self._holds(u)]
        wanted = [w for u in self.keeper.units.values() if (w := self._wanted(u, now)) is not None]
        step = next_step(residents, wanted, self.capacity, now, self.rules)
        while isinstance(step, Never):
            # Its requests are refused for a while, why stands in the list. All others go on as if it were not there.
            never = step
            unit, why = self.keeper.units[never.name], f"does not fit beside what must stay: {gib(never.short_bytes)} are missing"
            self.uses[never.name].never_until = now + NEVER_SECONDS
            if unit.why != why:
                unit.why = why
                log.warning("%s %s", never.name, why)
            self.keeper.serves(unit, ready=False)
            wanted = [w for w in wanted if w.name != never.name]
            step = next_step(residents, wanted, self.capacity, now, self.rules)
        self._close(frozenset(step.names) if isinstance(step, Close) else frozenset())
        match step:
            case Load(name, taken, evict):
                self._begin(name, taken, evict)
            case Unload(names):
                for name in names:
                    self._begin("", (), (name,))
        return bool(wanted or self._closed or self._tasks)

    def _holds(self, unit: Unit) -> bool:
        return unit.name not in self._going and (unit.name in self._coming or unit.state in LOADED)

    def _measure(self, now: float) -> None:
        """How often each is asked for: those that ended, run and wait now, against the last look."""
        span = max(now - self._looked_at, 1e-3)
        self._looked_at = now
        for name, use in self.uses.items():
            line = self.keeper.line(name)
            here = self.keeper.running(name) + (len(line) if line is not None else 0)
            known = self.keeper.ended(name) + here
            came, use.known = max(known - use.known, 0), known
            use.per_second += (came / span - use.per_second) * min(span * RATE_SPREAD, 1.0)
            if here or came:
                use.used_at = now

    def _resident(self, unit: Unit, now: float) -> Resident:
        name, use = unit.name, self.uses[unit.name]
        line = self.keeper.line(name)
        if unit.state is State.READY:
            use.ready_at = use.ready_at or now
        else:
            use.ready_at = None
        return Resident(
            name=name,
            gpu_bytes=self._coming.get(name) or gpu_bytes(unit.placed, len(self.capacity)),
            load_seconds=use.load_seconds,
            ready_at=use.ready_at,
            used_at=use.used_at,
            running=self.keeper.running(name),
            waiting=len(line) if line is not None else 0,
            per_second=use.per_second,
            priority=max((n.priority for n in line), default=0) if line is not None else 0,
            pinned=name in self._pinned,
            closed=name in self._closed,
        )

    def _wanted(self, unit: Unit, now: float) -> Wanted | None:
        name, use = unit.name, self.uses[unit.name]
        line = self.keeper.line(name)
        if unit.state is not State.ASLEEP or name in self._coming or line is None or not len(line) or now < max(use.not_before, use.never_until):
            return None
        needs = list(line)
        # Waiting is told as spans: the gateway's clock is its own.
        placements = tuple(dict.fromkeys(gpu_bytes(w, len(self.capacity)) for w in self._ways_of(unit)))
        since = now - max(self.keeper.waited(name), 0.0)
        return Wanted(name=name, placements=placements, since=since, load_seconds=use.load_seconds, priority=max(n.priority for n in needs))

    def _ways_of(self, unit: Unit) -> list[Placed]:
        """Its ways, with what was learned of the one that it had last."""
        return [unit.placed if way.on == unit.placed.on else way for way in self._ways[unit.name]]

    # --- acting

    def _close(self, names: frozenset[str]) -> None:
        """These take no new requests, so that they can go when they have answered what they run."""
        for name, unit in self.keeper.units.items():
            if (name in names) != (name in self._closed) and unit.state is State.READY:
                self.keeper.serves(unit, ready=name not in names)
        self._closed = names

    def _begin(self, name: str, taken: tuple[int, ...], evict: Sequence[str]) -> None:
        """Unload those, then load `name` with so many bytes of each GPU; an empty name: nothing is loaded."""
        self._going.update(evict)
        for gone in evict:
            self.keeper.serves(self.keeper.units[gone], ready=False)
        if name:
            self._coming[name] = taken
        task = asyncio.get_running_loop().create_task(self._act(name, taken, evict))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _act(self, name: str, taken: tuple[int, ...], evict: Sequence[str]) -> None:
        began = self._clock()
        try:
            for gone in evict:
                self.uses[gone].evictions += 1
                await self.keeper.unload(self.keeper.units[gone])
                self._going.discard(gone)
            if name:
                unit, use = self.keeper.units[name], self.uses[name]
                placed = next(w for w in self._ways_of(unit) if gpu_bytes(w, len(self.capacity)) == taken)
                use.loads += 1
                loaded = await self.keeper.load(unit, placed)
                use.loading_seconds += self._clock() - began
                if loaded:
                    use.load_seconds = self._clock() - began
                    use.used_at = self._clock()
        except VramError as e:
            log.warning("%s: %s", name or ", ".join(evict), e.message)
        except Exception:
            log.exception("%s", name or ", ".join(evict))
            # Who was to go and is still there serves again.
            self._going.difference_update(evict)
            for stays in (self.keeper.units[gone] for gone in evict):
                self.keeper.serves(stays, ready=stays.state is State.READY and self.open(stays.name))
        finally:
            self._going.difference_update(evict)
            self._coming.pop(name, None)
