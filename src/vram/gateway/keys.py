"""API keys: who may ask, for which models, how much a minute and a month. A key is shown once, when it is made; only its digest is kept.

Looked up by digest: what a lookup's time could tell is about SHA-256 of a guess, not about a key. Rates are token buckets that hold
one minute; budgets count what was spent in the calendar month (UTC), as the usage has it.
"""

import hashlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Callable

PREFIX: Final = "vram-"
DIGEST_BYTES: Final = 32


def new_key() -> str:
    """A fresh key: 256 bits from the system's generator."""
    return PREFIX + secrets.token_urlsafe(32)


def digest(key: bytes) -> bytes:
    """What is kept of a key. Keys are random and long: no salt and no slow hash would add to that."""
    return hashlib.sha256(key).digest()


def digest_of(authorization: bytes) -> bytes:
    """The digest of the key in an `Authorization` header; empty where it has none."""
    return digest(authorization[7:].strip()) if authorization[:7].lower() == b"bearer " else b""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTerms:
    """What a key allows; None: no limit.

    Attributes:
        name: whose key it is; stands in the usage and in logs instead of the key.
        models: public model names that it may ask for.
        priority: higher ones go first in a queue.
        requests_per_minute: requests that may begin in a minute.
        tokens_per_minute: prompt and output tokens in a minute.
        dollars_per_month: what may be spent in a calendar month.
        nano_dollars_spent: of which this much was spent this month already.
        month: which month that is, in months since year 0 (UTC).
        created: when it was made, in seconds since 1970.
    """

    name: str
    models: frozenset[str] | None = None
    priority: int = 0
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    dollars_per_month: float | None = None
    nano_dollars_spent: int = 0
    month: int = 0
    created: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OverLimit:
    """Why a key may not ask now.

    Attributes:
        what: `requests`, `tokens` or `budget`.
        retry_after_seconds: when it may again; None: not by waiting a minute.
    """

    what: str
    retry_after_seconds: int | None


class Key:
    """A key in use, with what it used of its rates.

    Attributes:
        source: a number that stands for it, the same in every process; 0: it stands for many clients.
    """

    __slots__ = ("_at", "_limited", "_requests", "_tokens", "source", "spent_nano_dollars", "terms")

    def __init__(self, terms: KeyTerms) -> None:
        self.terms = terms
        self.source = crc32(terms.name.encode()) | 1 << 32
        self.spent_nano_dollars = terms.nano_dollars_spent
        self._at = 0.0
        self._requests = float(terms.requests_per_minute or 0)
        self._tokens = float(terms.tokens_per_minute or 0)
        self._limited = terms.requests_per_minute is not None or terms.tokens_per_minute is not None or terms.dollars_per_month is not None

    @property
    def name(self) -> str:
        """Whose key it is."""
        return self.terms.name

    def take(self, now: float, tokens: int) -> OverLimit | None:
        """Begin a request of about so many tokens, or say which limit forbids it. `settle` corrects the tokens at its end."""
        if not self._limited:
            return None
        terms = self.terms
        if terms.dollars_per_month is not None and self.spent_nano_dollars >= terms.dollars_per_month * 1_000_000_000:
            return OverLimit(what="budget", retry_after_seconds=None)
        self._fill(now)
        if terms.requests_per_minute is not None and self._requests < 1:
            return OverLimit(what="requests", retry_after_seconds=1 + int((1 - self._requests) * 60 / terms.requests_per_minute))
        if terms.tokens_per_minute is not None and self._tokens <= 0:
            return OverLimit(what="tokens", retry_after_seconds=1 + int((1 - self._tokens) * 60 / terms.tokens_per_minute))
        self._requests -= 1
        self._tokens -= tokens
        return None

    def settle(self, estimated_tokens: int, real_tokens: int, nano_dollars: int) -> None:
        """A request ended: its real tokens take the place of the estimated ones."""
        self._tokens += estimated_tokens - real_tokens
        self.spent_nano_dollars += nano_dollars

    def renewed(self, terms: KeyTerms) -> "Key":
        """The same key under changed terms: what is used of its rates stays used."""
        made = Key(terms)
        made._at, made._requests, made._tokens = self._at, self._requests, self._tokens
        # What ended in the last half second is not written down yet; in another month it no longer counts.
        if terms.month == self.terms.month:
            made.spent_nano_dollars = max(self.spent_nano_dollars, terms.nano_dollars_spent)
        return made

    def _fill(self, now: float) -> None:
        terms, minutes = self.terms, (now - self._at) / 60
        self._at = now
        if terms.requests_per_minute is not None:
            self._requests = min(self._requests + minutes * terms.requests_per_minute, terms.requests_per_minute)
        if terms.tokens_per_minute is not None:
            self._tokens = min(self._tokens + minutes * terms.tokens_per_minute, terms.tokens_per_minute)


def _key(_: bytes, terms: KeyTerms) -> Key:
    return Key(terms)


OPEN: Final = Key(KeyTerms(name="anonymous"))
"""Stands for every client where no keys are asked for."""
OPEN.source = 0


class KeyRing:
    """All keys, found by what a client sends.

    Attributes:
        required: whether a client needs one.
        follows: whether one is needed from the first key on that there is; never the other way: who revokes the last key opens nothing.
    """

    def __init__(self, *, required: bool, follows: bool = False, make: "Callable[[bytes, KeyTerms], Key] | None" = None) -> None:
        self.required = required
        self.follows = follows
        self._make = make or _key
        self._keys: dict[bytes, Key] = {}

    def replace(self, terms: dict[bytes, KeyTerms]) -> None:
        """Take the keys of a store, by digest; keys that stay keep what they used."""
        self._keys = {d: self._keys[d].renewed(t) if d in self._keys else self._make(d, t) for d, t in terms.items()}
        if self._keys and self.follows:
            self.required = True

    def find(self, authorization: bytes) -> Key | None:
        """The key of an `Authorization` header; None when it is none of ours."""
        return self.of(digest_of(authorization))

    def of(self, digested: bytes) -> Key | None:
        """The key of a header's digest; None when it is none of ours."""
        found = self._keys.get(digested) if digested else None
        if found is not None:
            return found
        return None if self.required else OPEN

    def __len__(self) -> int:
        return len(self._keys)
