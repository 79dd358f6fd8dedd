"""A key whose limits hold for all workers together: what was used of them stands in the shared block."""

from typing import TYPE_CHECKING

from vram.gateway.block import AT, MONTH, REQUESTS, SPENT, TOKENS
from vram.gateway.keys import Key, KeyTerms, OverLimit

if TYPE_CHECKING:
    from vram.gateway.shared import SharedLedger


class SharedKey(Key):
    """One worker's view of a key. It is asked inside the ledger or enters it itself."""

    def __init__(self, ledger: "SharedLedger", words_at: int, terms: KeyTerms) -> None:
        super().__init__(terms)
        self._ledger = ledger
        self._words_at = words_at
        ledger.enter()
        try:
            words, at = ledger.block.words, words_at
            # In another month nothing is spent yet but what the file says; in the same one, the file may not have all of it yet.
            spent = terms.nano_dollars_spent if words[at + MONTH] != terms.month else max(words[at + SPENT], terms.nano_dollars_spent)
            words[at + MONTH], words[at + SPENT] = terms.month, spent
        finally:
            ledger.leave()

    def take(self, now: float, tokens: int) -> OverLimit | None:
        """Begin a request of about so many tokens, or say which limit forbids it."""
        self._ledger.enter()
        try:
            self._read()
            # Clocks of two loops may differ by a turn: time never runs backwards here.
            over = super().take(max(now, self._at), tokens)
            self._write()
        finally:
            self._ledger.leave()
        return over

    def settle(self, estimated_tokens: int, real_tokens: int, nano_dollars: int) -> None:
        """A request ended."""
        self._ledger.enter()
        try:
            self._read()
            super().settle(estimated_tokens, real_tokens, nano_dollars)
            self._write()
        finally:
            self._ledger.leave()

    def renewed(self, terms: KeyTerms) -> Key:
        """The same key under changed terms."""
        return SharedKey(self._ledger, self._words_at, terms)

    def _read(self) -> None:
        reals, at = self._ledger.block.reals, self._words_at
        self._at, self._requests, self._tokens = reals[at + AT], reals[at + REQUESTS], reals[at + TOKENS]
        self.spent_nano_dollars = self._ledger.block.words[at + SPENT]

    def _write(self) -> None:
        reals, at = self._ledger.block.reals, self._words_at
        reals[at + AT], reals[at + REQUESTS], reals[at + TOKENS] = self._at, self._requests, self._tokens
        self._ledger.block.words[at + SPENT] = self.spent_nano_dollars
