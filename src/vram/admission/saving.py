"""What leases are charged for and their engine does not hold: blocks that running sequences share, and prompts that were estimated too long.

Nobody but the engine knows which blocks two prompts share: that hangs on its template, its tokenizer, tools, pictures, adapters, and on who
came first. So its own word counts, and nothing else: how many bytes the sequences that run have in its cache, each block once. Blocks that
are cached and belong to nobody who runs are not among them; they are no saving.

Why it does not say too much. Let the engine hold `used` bytes at some moment, and `then` be what a lease was charged for up to there. From
then on it holds at most `used`, and all that these leases grow by, and the whole of everybody else; whoever leaves may free nothing, as
others may hold the same blocks. That is the sum of all charges, less the sum of `then` of those who are still here, plus `used`. So the
saving is what that sum is more than `used`, and each who leaves takes his `then` off it. It needs no engine that computes prefixes in some
order, and holds for windows, too; beside states, of which an engine has a block more for a step, nothing is saved. It rests on three things:
the word is at most `SEEN_TOKENS` steps old when it comes, one block in each table is all that whole blocks may add, and the engine does not
throw running sequences out and in again (those that are out when it speaks are taken off; admission is there that none is).
"""

from typing import TYPE_CHECKING, Final

from vram.memory.curve import KvCurve

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vram.admission.lease import Lease

SEEN_TOKENS: Final = 16
"""Tokens of an answer that came when its engine is asked: it is past its prompt, and so long ago that the engine's word has it in it."""


class Saving:
    """The saving of one replica, as its engine's last word has it.

    Attributes:
        nbytes: of it now.
        shared: whether there was any by the last word.
        kept_bytes: what is shared is foreseen to hold so many bytes until the next word, whoever leaves.
    """

    __slots__ = ("_asked", "_then", "kept_bytes", "nbytes", "shared")

    def __init__(self) -> None:
        self.nbytes = self.kept_bytes = 0
        self.shared = False
        self._asked: dict[Lease, int] = {}
        self._then: dict[Lease, int] = {}

    def then(self, lease: "Lease") -> int:
        """Bytes that a lease takes off the saving when it leaves."""
        return self._then.get(lease, 0)

    def ask(self, leases: "Iterable[Lease]", curve: KvCurve) -> None:
        """The engine is asked: its word will be of some moment from now on, or of shortly before."""
        self._asked = asked = {}
        for lease in leases:
            need = lease.need
            if not need.streams or need.sequences != 1 or lease.produced < SEEN_TOKENS:
                continue
            then = min(curve.nbytes(need.prompt_tokens + lease.produced - SEEN_TOKENS), lease.held_bytes) - curve.step_bytes
            if then > 0:
                asked[lease] = then

    def hear(self, used_bytes: int, running: int, held_bytes: int) -> bool:
        """Its word: bytes in use, by so many sequences that run, while leases were charged `held_bytes`. What each saves is dealt anew.

        Where fewer run than were seen to, some are over or thrown out: those that would save most are taken for them. What is left of the
        word before goes on where it is more (who came since may be seen too little yet) and this one does not say that it is too much.
        Returns whether there was or is a saving.
        """
        found = sorted(((lease, then) for lease, then in self._asked.items() if lease.live), key=_bytes_of)[: max(running, 0)]
        before = self.shared
        self._asked = {}
        total = 0
        for _, then in found:
            total += then
        for lease in self._then:
            lease.saved_bytes = lease.shared_bytes = 0
        self.kept_bytes = 0
        if self.nbytes < total - used_bytes or self.nbytes > held_bytes - used_bytes:
            self.nbytes = max(total - used_bytes, 0)
            self._then = dict(found) if self.nbytes else {}
        self.shared = self.nbytes > 0
        if self.shared:
            self._deal()
        return before or self.shared

    def _deal(self) -> None:
        """Those that begin alike save it, each by its bytes; where they alone cannot, or none do, all save it.

        It says who pays less, and what is foreseen of ends: of what `n` share, each end frees nothing but the last. It lets nobody in.
        """
        alike: dict[int, int] = {}
        for lease in self._then:
            alike[lease.need.kin] = alike.get(lease.need.kin, 0) + 1
        alike.pop(0, None)
        base = 0
        for lease, then in self._then.items():
            if alike.get(lease.need.kin, 0) > 1:
                base += then
        if base < self.nbytes:
            base = sum(self._then.values())
            alike = {}
        for lease, then in self._then.items():
            number = alike.get(lease.need.kin, 0)
            if alike and number < 2:
                continue
            lease.saved_bytes = self.nbytes * then // base
            lease.shared_bytes = min(lease.saved_bytes * number // (number - 1), then) if number > 1 else lease.saved_bytes
            self.kept_bytes += lease.shared_bytes - lease.saved_bytes

    def left(self, lease: "Lease") -> None:
        """A lease ended: what it was charged for may be held by others now."""
        self.nbytes = max(self.nbytes - self._then.pop(lease, 0), 0)


def _bytes_of(item: "tuple[Lease, int]") -> int:
    return item[1]
