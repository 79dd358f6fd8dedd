"""Ollama: llama-server beneath since PR #16031, engines of its own before. How it starts them, by version.

Sources: llm/llama_server.go (`-c` context × parallel, `-np`, `-b` and `-ub` of 512, cache type, flash attention auto),
server/routes.go (default contexts by memory), envconfig/config.go (`OLLAMA_NUM_PARALLEL` 1; one context for all), each
at the tags named below. What its own engines took is
llama.cpp's older rule with a wide band: their estimates were off by up to a factor of two both ways (ollama#10740, #8447).
"""

import re
from dataclasses import fields
from functools import lru_cache
from typing import Final

from vram.engines.base import Settings
from vram.engines.draft import Draft
from vram.engines.llama_cpp_build import Build
from vram.engines.llama_cpp_checkpoints import MOST
from vram.engines.llama_cpp_engine import LlamaCpp
from vram.errors import UsageError
from vram.hardware.fleet import Fleet
from vram.model.model import Model
from vram.units import GIB

BATCH: Final = 512
"""`num_batch` of api.DefaultOptions, passed as logical and physical batch."""
LLAMA_SERVER_SINCE: Final = (0, 30)
"""v0.30.0 is the first release with PR #16031; it carries llama.cpp b9452."""
FEW_LOGITS_SINCE: Final = (0, 30, 1)
"""v0.30.1 carries b9479, the first with PR #23861: a row of logits a slot is reserved, one a token before (LLAMA_CPP_VERSION at both tags)."""
CONTEXT_BY_MEMORY_SINCE: Final = (0, 15, 5)
"""Contexts by the GPUs' memory; one for all before."""
CONTEXT_4096_SINCE: Final = (0, 6, 7)
"""2,048 before."""
CONTEXTS: Final = ((48 * GIB, 262_144), (24 * GIB, 32_768), (0, 4_096))


@lru_cache(maxsize=64)
def version_of(text: str) -> tuple[int, ...] | None:
    """`0.6.8` as numbers; None for the newest.

    Raises:
        UsageError: no version.
    """
    if not text:
        return None
    found = re.fullmatch(r"v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?(?:[-+].*)?", text)
    if not found:
        raise UsageError(f"Ollama has no version {text!r}", hint="write it like ollama@0.30.0")
    return tuple(int(n or 0) for n in found.groups())


class Ollama(LlamaCpp):
    """One model of an Ollama server: every slot has a cache of its own."""

    name = "ollama"
    newest = None
    # Ollama starts its runner without a draft; adapters stand in a Modelfile (ADAPTER).
    heeds = frozenset(f.name for f in fields(Settings)) - {"draft"}

    def draft_of(self, settings: Settings) -> Draft | None:  # noqa: ARG002  (it has no flag for one)
        """Nothing."""
        return None

    def build(self, settings: Settings) -> Build:
        """What the version of the settings starts."""
        version = version_of(settings.version)
        all_logits = version is not None and version < FEW_LOGITS_SINCE
        # Its own runner, which ran before, keeps nothing of past prompts on the host.
        serves = version is None or version >= LLAMA_SERVER_SINCE
        return Build(
            slots=1,
            unified=False,
            all_logits=all_logits,
            batch=BATCH,
            ubatch=BATCH,
            checkpoints=MOST if serves else 0,
            whole_windows=all_logits,
            prompt_cache=serves,
        )

    def default_context(self, model: Model, fleet: Fleet, settings: Settings) -> int | None:
        """By the memory of all GPUs together, and no longer than the model was made for (server/routes.go)."""
        total = sum(member.gpu.capacity_bytes for member in fleet.gpus)
        # A card sold as 24 GB reports a little less: Ollama counts from 23 and 47 GiB on.
        tokens = next(tokens for least, tokens in CONTEXTS if total >= max(least - GIB, 0))
        version = version_of(settings.version)
        if version is not None and version < CONTEXT_BY_MEMORY_SINCE:
            tokens = 4_096 if version >= CONTEXT_4096_SINCE else 2_048
        stated = model.geometry.max_context_tokens
        return min(tokens, stated) if stated else tokens
