"""What is foreseen of one replica: what all who are there will hold together at moments to come, kept from one question to the next.

A forecast (`vram.admission.forecast`) of fifty leases costs fifty times what one more costs. So it is kept, with those who came added, until
answers grew or ended so much that it no longer holds on; where it says no, it is made anew first. It decides nothing but what it is asked.
"""

from typing import TYPE_CHECKING, Final

from vram.admission.forecast import AHEAD, Forecast
from vram.admission.need import Need

if TYPE_CHECKING:
    from vram.admission.books import Books

BEHIND_TOKENS: Final = 16
"""Tokens that each answer may have grown, on average, or steps that may have gone by, before what was foreseen is foreseen anew."""


class Outlook:
    """What is foreseen of one replica's books."""

    __slots__ = ("_at", "_behind", "_beside", "_books", "_ended", "_forecast", "_kept", "_shared")

    def __init__(self, books: "Books") -> None:
        self._books = books
        self._forecast: Forecast | None = None
        # Whether what an end does not free was left out of it, the engine's steps when it was made, and what happened since: tokens, an end.
        self._shared = False
        self._at = self._behind = 0
        self._ended = False
        # The request that the replica is kept for, and what is foreseen with it.
        self._kept: Need | None = None
        self._beside: Forecast | None = None

    # --- questions

    def fits(self, need: Need, most: int, held: int, room: int, *, shared: bool) -> bool:
        """Whether a request fits beside what all who are here will hold, as far as that can be foreseen from how long answers get.

        With `shared`, what an end does not free is in `room` already, and each is foreseen with its own part.
        """
        books = self._books
        law = need.law
        if law is None:
            return False
        holds_on = self._behind <= BEHIND_TOKENS * books.sequences and books.steps - self._at <= BEHIND_TOKENS
        if self._forecast is not None and self._shared is shared and holds_on:
            # What was foreseen holds on: an end since then only makes it too cautious.
            forecast = self._forecast.copy()
            forecast.add(law, books.curve, need.prompt_tokens, 0, most, need.sequences, held, streams=need.streams)
            if forecast.within(room, books.calm):
                return True
            if not self._ended and not self._behind:
                return False
        self._forecast, self._kept = Forecast(), None
        forecast, self._shared = self._forecast, shared
        for lease in books.leases:
            n = lease.need
            # Of one that does not stream is seen only that it is still there, after so many steps: it is one of the longer ones.
            produced = lease.produced if n.streams else min(max(books.steps - lease.began, 0), lease.most)
            own = lease.held_bytes - lease.shared_bytes if shared else lease.held_bytes
            forecast.add(n.law or law, books.curve, n.prompt_tokens, produced, lease.most, n.sequences, own, streams=n.streams)
        for g in books.elsewhere():
            # Which model theirs are of is not told: ours stands for it.
            produced = g.produced if g.streams else min(g.produced + g.ahead, g.most)
            forecast.add(law, books.curve, g.tokens - g.produced, produced, g.most, g.sequences, g.held_bytes, streams=g.streams)
        self._behind, self._ended, self._at = 0, False, books.steps
        forecast = forecast.copy()
        forecast.add(law, books.curve, need.prompt_tokens, 0, most, need.sequences, held, streams=need.streams)
        return forecast.within(room, books.calm)

    def leaves_room(self, kept: Need, need: Need, most: int, held: int, room: int) -> bool:
        """Whether one that the replica is kept for comes as soon with it as without it: by its own limit it is gone by then, or fits beside.

        As small jobs fill the gaps before a large one in EASY backfilling (Mu'alem and Feitelson, 2001, https://doi.org/10.1109/71.932708).
        """
        books = self._books
        if need.most_tokens is None:
            return False
        if self._kept is not kept:
            self._kept, self._beside = kept, self._coming(kept, room)
        if self._beside is None:
            return False
        trial = self._beside.copy()
        trial.add(None, books.curve, need.prompt_tokens, 0, most, need.sequences, held, streams=need.streams)
        return trial.within(room, books.calm)

    def _coming(self, kept: Need, room: int) -> Forecast | None:
        """What is foreseen with one that the replica is kept for, from the first moment at which it fits; None where none is in sight."""
        books = self._books
        longest = kept.most_tokens if kept.most_tokens is not None else books.context_tokens - kept.prompt_tokens
        size = books.size(kept, 0 if kept.streams else min(kept.expected_tokens, longest))
        for begins in AHEAD[:-1]:
            if self._forecast is None:
                break
            trial = self._forecast.copy()
            trial.add(kept.law, books.curve, kept.prompt_tokens, 0, longest, kept.sequences, size, streams=kept.streams, begins=begins)
            if trial.within(room, books.calm):
                return trial
        return None

    # --- what happens

    def came(self, need: Need, most: int, held_bytes: int) -> None:
        """A request was let in, with at most so many output tokens."""
        if self._forecast is not None and need.law is not None:
            self._forecast.add(need.law, self._books.curve, need.prompt_tokens, 0, most, need.sequences, held_bytes, streams=need.streams)
            self._kept = None

    def grew(self, tokens: int) -> None:
        """Answers grew by so many tokens, all their sequences together."""
        self._behind += tokens

    def ended(self) -> None:
        """One who was there is gone."""
        self._ended = True

    def forget(self) -> None:
        """Others changed what is held here: nothing that was foreseen holds on."""
        self._forecast = self._kept = None
