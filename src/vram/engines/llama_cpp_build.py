"""How a build of llama.cpp starts its server: slots, batches and what they share, by build number; each change with its pull request."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from vram.engines.llama_cpp import PADDING
from vram.engines.llama_cpp_checkpoints import MOST
from vram.errors import UsageError

NEWEST: Final = 11434
"""The build that the rules were read off."""
UNIFIED_SLOTS: Final = 6929
"""llama-server starts four slots that share one cache since PR #16736 (November 2025); one before."""
FEW_LOGITS: Final = 9460
"""llama-server reserves a row of logits a slot since PR #23861 (de6f727aa, 1 June 2026: in b9464, not in b9272); one a token before."""
PADDED: Final = 7000
"""Caches are padded to 256 cells since PR #17046 (November 2025); before to 256 with flash attention, else to 32 (b4615's log)."""
WINDOWED: Final = 5434
"""Windowed layers keep a window since PR #13194 (20 May 2025); before they kept every token."""
CHECKPOINTS: Final = 6150
"""llama-server keeps checkpoints of windows since PR #15293 (August 2025); how many a slot has changed since, and was never more than now."""
MASKED: Final = 9490
"""Checkpoints hold what windows still see since PR #23981 (June 2026); before, all that lay in the windowed cache."""
PROMPT_CACHE: Final = 6713
"""llama-server keeps prompts of the past since PR #16391 (October 2025)."""
SLOTS: Final = 4
UBATCH, BATCH = 512, 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """How a build of llama.cpp is started: what its version decides.

    Attributes:
        slots: slots of a server that is told none.
        unified: these slots share one cache.
        all_logits: logits of the whole batch are reserved.
        padding: multiple of cells without flash attention.
        full_windows: windowed layers keep every token.
        batch: logical batch.
        ubatch: physical batch.
        checkpoints: of past prompts, a slot, at most.
        whole_windows: a checkpoint holds all that lies in the windowed cache.
        prompt_cache: prompts of the past are kept on the host.
    """

    slots: int = SLOTS
    unified: bool = True
    all_logits: bool = False
    padding: int = PADDING
    full_windows: bool = False
    batch: int = BATCH
    ubatch: int = UBATCH
    checkpoints: int = MOST
    whole_windows: bool = False
    prompt_cache: bool = True


@lru_cache(maxsize=64)
def build_of(version: str) -> Build:
    """What a version (`b11434`, `11434`) does.

    Raises:
        UsageError: no build number.
    """
    if not version:
        return Build()
    found = re.fullmatch(r"b?(\d{1,6})(\.0)*", version)
    if not found:
        raise UsageError(f"llama.cpp has no version {version!r}", hint=f"builds are numbers: llama.cpp@b{NEWEST}")
    number = int(found[1])
    many = number >= UNIFIED_SLOTS
    return Build(
        slots=SLOTS if many else 1,
        unified=many,
        all_logits=number < FEW_LOGITS,
        padding=PADDING if number >= PADDED else 32,
        full_windows=number < WINDOWED,
        checkpoints=MOST if number >= CHECKPOINTS else 0,
        whole_windows=number < MASKED,
        prompt_cache=number >= PROMPT_CACHE,
    )
