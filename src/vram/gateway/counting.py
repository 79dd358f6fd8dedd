"""Prompts whose length decides, counted by their engine's own tokenizer: only where an estimate alone would refuse them as too long.

vLLM's `/tokenize` takes the messages themselves (vllm/entrypoints/serve/tokenize/protocol.py); llama.cpp's `/apply-template` makes the text
of them that its `/tokenize` counts (tools/server/README.md); SGLang's `/tokenize` takes plain prompts. Off the hot path, a few at a
time, within seconds; what was counted is remembered by a digest of the body.
"""

import asyncio
from contextlib import suppress
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Raw

from vram.admission.decide import Refuse, decide
from vram.gateway.bodies import Tokenized
from vram.gateway.call import CallError, call

if TYPE_CHECKING:
    from vram.gateway.ask import Ask
    from vram.gateway.exchange import Exchange
    from vram.gateway.replica import Replica
    from vram.gateway.seats import Seat
    from vram.gateway.ticket import Ticket

COUNT_SECONDS: Final = 5.0
MOST_AT_ONCE: Final = 8
REMEMBERED: Final = 1024
MOST_BYTES_PER_TOKEN: Final = 32
"""A prompt of more bytes than this for each token that fits is too long without being counted: no text has so few tokens."""
_CHAT: Final = b"/v1/chat/completions"
_COMPLETION: Final = b"/v1/completions"
# What a chat template may see; nothing else of the body goes to the tokenizer.
_SEEN: Final[tuple[str, ...]] = (
    "messages",
    "tools",
    "add_generation_prompt",
    "continue_final_message",
    "add_special_tokens",
    "chat_template",
    "chat_template_kwargs",
)
_FIELDS: Final = msgspec.json.Decoder(dict[str, Raw])
_TOKENIZED: Final = msgspec.json.Decoder(Tokenized)


class Counting:
    """The gateway's counts of prompts.

    Attributes:
        counted: prompts that an engine counted.
        remembered: prompts that had been counted before.
        failed: prompts that could not be counted in time: the estimate stood.
    """

    def __init__(self) -> None:
        self.counted = self.remembered = self.failed = 0
        self._known: dict[bytes, int] = {}
        self._places = asyncio.Semaphore(MOST_AT_ONCE)

    async def tokens(self, x: "Exchange", seats: "list[Seat]") -> int | None:
        """Tokens of a request's prompt, by the first of these replicas' engines that can tell; None where none does."""
        digest = blake2b(x.body, digest_size=16, key=x.path[:64]).digest()
        if (known := self._known.get(digest)) is not None:
            self.remembered += 1
            return known
        found = None
        for seat in seats:
            with suppress(CallError, TimeoutError, msgspec.DecodeError, ValueError, KeyError):
                async with asyncio.timeout(COUNT_SECONDS), self._places:
                    found = await _asked(seat.replica, seat.engine, seat.pool.model, x.path, x.body)
            if found is not None:
                break
        if found is None:
            self.failed += 1
            return None
        self.counted += 1
        if len(self._known) >= REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[digest] = found
        return found


async def _asked(replica: "Replica", engine: str, model: str, path: bytes, body: bytes) -> int | None:
    given = _FIELDS.decode(body)
    named = {"model": Raw(msgspec.json.encode(model))}
    if path == _CHAT:
        seen = {name: given[name] for name in _SEEN if name in given}
        if engine == "vllm":
            return await _tokens(replica, {**named, **seen})
        if engine == "llama.cpp":
            answer = await call(replica, b"POST", b"/apply-template", body=msgspec.json.encode(seen), seconds=COUNT_SECONDS, limit_bytes=2**26)
            if answer.status != 200:
                return None
            return await _tokens(replica, {"content": _FIELDS.decode(answer.body)["prompt"], "add_special": Raw(b"true"), "parse_special": Raw(b"true")})
        return None
    prompt = given.get("prompt")
    if path != _COMPLETION or prompt is None or bytes(prompt)[:1] != b'"':
        return None
    if engine in {"vllm", "sglang"}:
        return await _tokens(replica, {**named, "prompt": prompt})
    if engine == "llama.cpp":
        return await _tokens(replica, {"content": prompt, "add_special": Raw(b"true"), "parse_special": Raw(b"true")})
    return None


async def _tokens(replica: "Replica", asked: dict[str, Any]) -> int | None:
    answer = await call(replica, b"POST", b"/tokenize", body=msgspec.json.encode(asked), seconds=COUNT_SECONDS, limit_bytes=2**26)
    if answer.status != 200:
        return None
    found = _TOKENIZED.decode(answer.body)
    count = found.count if found.count is not None else len(found.tokens) if found.tokens is not None else None
    return count if count is not None and 0 < count < 2**40 else None


def in_doubt(ask: "Ask", ticket: "Ticket", answer: Refuse, now: float) -> bool:
    """Whether a request is too long by an estimate only: with as few tokens as its text may have it would fit."""
    if ticket.counted or ask.prompt_tokens is not None or ask.pictures or ask.prompts != 1:
        return False
    if not 0 < ask.prompt_bytes <= answer.longest_tokens * MOST_BYTES_PER_TOKEN:
        return False
    need = ticket.need
    most, need.prompt_tokens = need.prompt_tokens, ticket.counter.prompts.least(ask.prompt_bytes)
    doubt = not isinstance(decide(need, ticket.counter.route, now, last=True), Refuse)
    need.prompt_tokens = most
    return doubt
