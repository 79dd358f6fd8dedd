"""The worst request that a plan admits, sent by us before the first user's: full length, all at once, a long prefill and then a few steps.

"A model that fits with a typical input will OOM on the first long-context request": here that request comes while nobody waits for it.
"""

import asyncio
import random
import time
from dataclasses import dataclass
from typing import Any, Final

from vram.errors import printable
from vram.runtime.http import Answer, NoAnswerError, ask
from vram.runtime.unit import Unit

ANSWER_TOKENS: Final = 8
SPARE_TOKENS: Final = 4
"""Left of the context for what an engine adds of its own (a BOS token)."""
BATCH: Final = 256
"""Most sequences of one decode step that are tried at once."""
KEPT_BYTES: Final = 16 * 2**10
"""Of an answer that nobody wants, for the words of an error: hundreds come at once."""
WITHOUT_COMPLETIONS: Final = frozenset({404, 405, 501})


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What an engine was put to.

    Attributes:
        sequences: at the same time.
        tokens: of each, prompt and answer together.
        seconds: how long all of it took.
        cut: why it was not seen to its end; empty when it was.
    """

    sequences: int
    tokens: int
    seconds: float
    cut: str = ""


class UnprovedError(Exception):
    """The engine failed what its plan admits."""


async def prove(unit: Unit, *, seconds: float) -> Proof:
    """Send what the plan admits at most.

    Returns:
        What was sent. Where `seconds` were not enough, or the engine completes no text, `cut` says so.

    Raises:
        UnprovedError: it ended, or answered with an error.
    """
    plan = unit.placed.plan
    context, sequences = plan.workload.context_tokens, plan.workload.concurrency
    prompt = max(context - ANSWER_TOKENS - SPARE_TOKENS, 1)
    began = time.monotonic()
    cut = ""
    try:
        async with asyncio.timeout(seconds):
            for number, length in _waves(unit, sequences, prompt):
                answers = await asyncio.gather(*(_send(unit, length, i, seconds) for i in range(number)))
                if any(a.status in WITHOUT_COMPLETIONS for a in answers):
                    cut = f"{unit.placed.engine.name} completes no text with this model"
                    break
                for answer in answers:
                    if answer.status != 200:
                        raise UnprovedError(f"answered {answer.status}: {printable(answer.body.decode('utf-8', 'replace'), 300)}")
    except TimeoutError:
        if unit.ended.is_set():
            raise UnprovedError("it ended") from None
        cut = f"not seen to its end within {seconds:g} s"
    except NoAnswerError as e:
        raise UnprovedError(str(e)) from None
    return Proof(sequences=sequences, tokens=min(prompt + ANSWER_TOKENS, context), seconds=time.monotonic() - began, cut=cut)


def _waves(unit: Unit, sequences: int, prompt: int) -> list[tuple[int, int]]:
    """How many requests of which length, one wave after the other: the longest together, then the widest batch."""
    waves = [(sequences, prompt)]
    if unit.placed.plan.gpus[0].pool is not None:
        most = min(unit.placed.plan.settings.max_num_seqs or BATCH, BATCH)
        waves += [(most, min(prompt, 16))] if most > sequences else []
    return waves


async def _send(unit: Unit, length: int, number: int, seconds: float) -> Answer:
    return await ask(unit.port, "POST", "/v1/completions", _body(unit, length, number), seconds=seconds, keep_bytes=KEPT_BYTES)


def _body(unit: Unit, length: int, number: int) -> dict[str, Any]:
    # Prompts that differ from their first token on: no engine shares their caches.
    ids = random.Random(number)  # noqa: S311  (noise, no secret)
    vocabulary = unit.placed.model.geometry.vocab_size or 1000
    low, high = (1000, min(vocabulary, 30_000)) if vocabulary > 2000 else (10, max(vocabulary, 12))
    prompt: Any = [ids.randrange(low, high) for _ in range(length)]
    if not unit.placed.engine.token_prompts:
        # A digit and a space are two tokens at most in every tokenizer that is known, and one at least.
        prompt = " ".join(str(ids.randrange(10)) for _ in range(max(length // 2, 1)))
    return {"model": unit.placed.alias, "prompt": prompt, "max_tokens": ANSWER_TOKENS, "temperature": 0, "ignore_eos": True, "cache_prompt": False}
