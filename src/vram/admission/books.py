"""The books of one replica: what its KV cache holds for whom now, what it will hold when all of them end, and what else is known of it.

Two things matter. `held_bytes` is what is in the cache now: prompt and output so far, in whole blocks, lease by lease. What they will
hold together at moments to come is foreseen from how long answers get (`vram.admission.outlook`): sequences that end give back what
others still grow into, so it is less than the sum of their greatest sizes. A request is let in when that stays within capacity with it
at every moment, by `CALM` standard deviations. Where no law of lengths is given, each answer ends as expected, and the peak counts
(`vram.admission.peak`). An answer that outgrows what was expected of it is expected to be longer, and is served before anybody new.

What the engine says of itself corrects the books while it is fresh: upwards, as others may use the replica, too; and downwards, as
sequences share blocks of their prompts, as far as that is sure (`vram.admission.saving`).
"""

from typing import Any, Final

from vram.admission.affinity import seed_of
from vram.admission.lease import Lease
from vram.admission.need import Need
from vram.admission.outlook import Outlook
from vram.admission.peak import FIRM_STEPS, LINGER_STEPS, Growth, peak_within
from vram.admission.saving import Saving
from vram.memory.curve import KvCurve

FRESH_SECONDS = 5.0
"""How long an engine's own figure counts."""
CALM: Final = 3.0
"""Standard deviations by which what is foreseen stays within capacity: the chance of more is a thousandth, at the worst moment to come."""
PASSING_SECONDS: Final = 10.0
"""For so long those may pass a request that the replica is kept for whom it need not wait for: then nobody does."""


class Books:
    """One replica.

    Attributes:
        name: its name, for people.
        seed: its name for hashes: of `home`, where it lies, so that it stays when the name changes.
        curve: what a sequence holds on one of its GPUs.
        capacity_bytes: KV bytes that sequences can hold on one of its GPUs.
        context_tokens: longest sequence.
        max_sequences: most sequences at once.
        held_bytes: sum of what the leases hold, those that others keep (see `elsewhere`) among them; what they share counts for each.
        promised_bytes: sum of what they promise.
        sequences: sequences of all leases.
        saving: what they are charged for and the engine does not hold.
        outlook: what is foreseen of all who are here.
        suspects: leases of those that may have killed an engine, and have not shown yet that they don't.
        leases: the live ones of this process.
        firm: whether its engine fails what it has no room for (llama.cpp), where others make it wait: then nothing counts but limits.
        ramp: from when until when it takes on more and more sequences, because it has just come back.
        usable: whether anybody may come (health, draining).
        coming: whether it becomes usable by itself (it is being loaded, or started again): who fits waits for it.
        steps: steps of its engine since the books were opened, as far as some stream showed them.
        counted_at: when the output of its streams was last counted, by the caller's clock.
        reserved: a request that waited too long and comes next here, before all others; None: nobody.
        reserved_at: since when it does.
        calm: standard deviations by which what is foreseen stays within capacity.
        over_bytes: what running answers need beyond capacity, because they outgrew all expectation; 0 when all is well.
    """

    __slots__ = (
        "_reported_at",
        "_reported_bytes",
        "_reported_held",
        "_saved_at",
        "_top_held",
        "calm",
        "capacity_bytes",
        "coming",
        "context_tokens",
        "counted_at",
        "curve",
        "firm",
        "held_bytes",
        "leases",
        "max_sequences",
        "name",
        "outlook",
        "owner",
        "promised_bytes",
        "ramp",
        "reserved",
        "reserved_at",
        "saving",
        "seed",
        "sequences",
        "steps",
        "suspects",
        "usable",
    )

    def __init__(
        self,
        name: str,
        curve: KvCurve,
        capacity_bytes: int,
        *,
        context_tokens: int,
        max_sequences: int = 256,
        firm: bool = False,
        home: str = "",
        owner: Any = None,
    ) -> None:
        self.name = name
        self.seed = seed_of(home or name)
        self.curve = curve
        self.capacity_bytes = capacity_bytes
        self.context_tokens = context_tokens
        self.max_sequences = max_sequences
        self.firm = firm
        self.steps = 0
        self.owner = owner
        self.held_bytes = 0
        self.promised_bytes = 0
        self.sequences = self.suspects = 0
        self.leases: set[Lease] = set()
        self.saving = Saving()
        self.usable = True
        self.ramp = (0.0, float("-inf"))
        self.coming = False
        self.reserved: Need | None = None
        self.reserved_at = 0.0
        self._reported_bytes = self._reported_held = self._top_held = 0
        self._reported_at = self._saved_at = self.counted_at = float("-inf")
        self.calm = CALM
        self.outlook = Outlook(self)

    # --- questions

    def elsewhere(self) -> list[Growth]:
        """How leases that other processes keep on this replica go on: none, where one process keeps all."""
        return []

    def foreign_bytes(self, now: float) -> int:
        """Bytes that somebody else holds here, by the engine's own word while that is fresh."""
        if not self._reported_bytes or now - self._reported_at > FRESH_SECONDS:
            return 0
        return max(self._reported_bytes - self._reported_held, 0)

    def saved_bytes(self, now: float) -> int:
        """Bytes that leases are charged for and the engine does not hold, by its own word while that is fresh."""
        return self.saving.nbytes if now - self._saved_at <= FRESH_SECONDS else 0

    def size(self, need: Need, output_tokens: int) -> int:
        """Bytes of the request with so many output tokens."""
        return need.sequences * self.curve.nbytes(need.prompt_tokens + output_tokens)

    def ever(self, need: Need, output_tokens: int) -> bool:
        """Whether it fits when nobody else is here. Sequences beyond the first may take turns inside the engine, if it is one that has turns."""
        prompt = need.prompt_tokens
        if self.firm and (need.sequences > self.max_sequences or self.size(need, output_tokens) > self.capacity_bytes):
            return False
        return prompt + output_tokens <= self.context_tokens and self.curve.nbytes(prompt + output_tokens) <= self.capacity_bytes

    def fits(self, need: Need, output_tokens: int, now: float, most: int = -1) -> bool:
        """Whether it fits now, beside what all who are here will hold; `most` output tokens where it is to be cut to so many."""
        kept = self.reserved if self.reserved is not need else None
        if kept is not None and (need.law is None or kept.law is None or self.firm or now - self.reserved_at >= PASSING_SECONDS):
            return False
        capacity = self.capacity_bytes
        if not self.leases and not self.sequences:
            if kept is not None:
                return False
            # Alone it is let in even where its sequences together are more than there is: the engine lets them take turns.
            return self.foreign_bytes(now) == 0 or self.size(need, output_tokens) + self.foreign_bytes(now) <= capacity
        at_once = self.max_sequences if now >= self.ramp[1] else self._ramped(now)
        if self.sequences + need.sequences + (kept.sequences if kept is not None else 0) > at_once or (need.beside and self.suspects >= need.beside):
            return False
        saved, shared = 0, False
        if self.saving.shared and now - self._saved_at <= FRESH_SECONDS:
            saved, shared = self.saving.nbytes, True
        own = capacity - self.foreign_bytes(now)
        room = own + saved
        promise = self.size(need, output_tokens)
        if kept is None and self.promised_bytes + promise <= (room if need.law is None or self.firm else room // 2):
            return True
        held = self.size(need, 0)
        if self.held_bytes + held > room:
            return False
        if need.law is None or self.firm:
            return self._peak_with(need, output_tokens, held, promise, own, saved)
        if most < 0:
            most = need.most_tokens if need.most_tokens is not None else self.context_tokens - need.prompt_tokens
        # What an end does not free is no room of those who are foreseen.
        left = own - self.saving.kept_bytes if shared else own
        if not self.outlook.fits(need, most, held if need.streams else promise, left, shared=shared):
            return False
        return kept is None or self.outlook.leaves_room(kept, need, most, held if need.streams else promise, left)

    def _peak_with(self, need: Need, output_tokens: int, held: int, promise: int, room: int, saved: int) -> bool:
        """Whether the peak with one more stays within `room`, of which nothing is taken for `saved` bytes.

        What does not stream is counted at its whole size for as long as its answer may take: how far it is cannot be seen.
        """
        sequences = need.sequences
        tokens = need.prompt_tokens
        growths = self.elsewhere()
        growths.append(Growth(output_tokens, held if need.streams else promise, promise, tokens, sequences))
        for lease in self.leases:
            growths.append(lease.growth())
        return peak_within(growths, self.curve, room, FIRM_STEPS if self.firm else LINGER_STEPS, saved)

    # --- deeds

    def reserve(self, need: Need, output_tokens: int, most: int, now: float) -> Lease:
        """Let the request in: it holds its prompt, and promises the rest."""
        promised = self.size(need, output_tokens)
        held = self.size(need, 0) if need.streams else promised
        if not self.leases and not self.sequences:
            # Alone, it may be more than there is (see `fits`): then it holds all.
            promised, held = min(promised, self.capacity_bytes), min(held, self.capacity_bytes)
        lease = Lease(self, need, output_tokens, most, held, max(promised, held), now)
        self.held_bytes += lease.held_bytes
        self._top_held = max(self._top_held, self.held_bytes)
        self.promised_bytes += lease.promised_bytes
        self.sequences += need.sequences
        self.leases.add(lease)
        if need.beside:
            lease.on_trial = True
            self.suspects += 1
        if need.law is not None:
            need.law.began()
        self.outlook.came(need, most, lease.held_bytes)
        if self.reserved is need:
            self.reserved = None
        return lease

    def grow(self, lease: Lease, produced: int, now: float, expected: int | None = None) -> bool:
        """So many output tokens are there; `expected` replaces what was expected where it was outgrown.

        The books never say more than capacity. Returns False where the lease should hold more than there is: then somebody
        else's end has to make room, and nobody new comes before.
        """
        if not lease.live:
            return True
        lease.account(now)
        self.outlook.grew((produced - lease.produced) * lease.need.sequences)
        if lease.need.law is not None:
            lease.need.law.went_on(lease.produced, produced)
        lease.produced = produced
        self.steps = max(self.steps, lease.began + produced)
        if expected is not None:
            lease.expected = min(expected, lease.most)
            promised = max(self._grown(lease, lease.expected), lease.held_bytes)
            self.promised_bytes += promised - lease.promised_bytes
            lease.promised_bytes = promised
        # The step that makes token k + 1 writes the cache of token k: with k made, prompt + k are held.
        wanted = self._grown(lease, produced)
        more = wanted - lease.held_bytes
        if more <= 0:
            return True
        given = min(more, max(self.capacity_bytes + self.saved_bytes(now) - self.held_bytes, 0))
        lease.held_bytes += given
        self.held_bytes += given
        self._top_held = max(self._top_held, self.held_bytes)
        if lease.held_bytes > lease.promised_bytes:
            self.promised_bytes += lease.held_bytes - lease.promised_bytes
            lease.promised_bytes = lease.held_bytes
        return given == more

    def _grown(self, lease: Lease, output_tokens: int) -> int:
        return lease.need.sequences * self.curve.nbytes(lease.need.prompt_tokens + output_tokens)

    def release(self, lease: Lease, now: float) -> bool:
        """End a lease. Only the first call does; returns whether it was that one."""
        if not lease.live:
            return False
        lease.account(now)
        lease.live = False
        self.outlook.ended()
        if lease.need.law is not None:
            lease.need.law.stopped(lease.produced)
        self.leases.discard(lease)
        self.held_bytes -= lease.held_bytes
        self.promised_bytes -= lease.promised_bytes
        self.sequences -= lease.need.sequences
        self.trust(lease)
        if self.saving.shared:
            self.saving.left(lease)
        return True

    def asked(self, *, shares: bool = True) -> None:
        """The engine is asked how much is used: its answer, when it comes, is of some moment from now on.

        With `shares`, what its sequences share is to be saved. Beside states nothing is: for a step the engine may hold more of them than it
        keeps, and what would be saved has no room for that.
        """
        self._top_held = self.held_bytes
        if shares and not self.curve.states:
            self.saving.ask(self.leases, self.curve)

    def warm_up(self, now: float, seconds: float) -> None:
        """It is back: it begins with a sequence at a time, and takes on more until it takes all after so many seconds."""
        self.ramp = (now, now + seconds)

    def _ramped(self, now: float) -> int:
        # As many times more in each second: a cold engine compiles and captures with its first batches, and fills its prefix cache.
        begin, end = self.ramp
        return max(int(self.max_sequences ** ((now - begin) / (end - begin))), 1)

    def trust(self, lease: Lease) -> None:
        """A lease that was suspected goes on well: the next one may be tried beside it."""
        if lease.on_trial:
            lease.on_trial = False
            self.suspects -= 1

    def report(self, used_bytes: int, now: float) -> None:
        """The engine says how much is used. Only what exceeds all that was held here since it was asked is somebody else's."""
        self._reported_bytes, self._reported_held, self._reported_at = used_bytes, self._top_held, now

    def save(self, used_bytes: int, running: int, now: float) -> bool:
        """The engine says how much the sequences that run have in its cache, each block once, and how many run: what is shared is room.

        To be called only of an engine whose word is about as fresh as its streams, after `asked`. Returns whether anything was or is shared.
        """
        for lease in self.leases:
            lease.account(now)
        self._saved_at = now
        if not self.saving.hear(used_bytes, running, self._top_held):
            return False
        self.outlook.forget()
        return True

    def resize(self, capacity_bytes: int) -> None:
        """The engine says how much there is. Less than is held: nobody new comes until enough have ended."""
        self.capacity_bytes = capacity_bytes
