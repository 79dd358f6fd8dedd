"""Which blocks a sequence holds as it grows, group by group, as vLLM's KV cache manager allocates and frees them.

Read in `vllm/v1/core/kv_cache_manager.py` (`allocate_slots`) and `single_type_kv_cache_manager.py` (`get_num_skipped_tokens`,
`get_num_blocks_to_allocate`) of 0.32. It counts blocks; which block it is does not matter without a prefix cache.
"""

from collections import Counter
from dataclasses import dataclass

from vram.engines.vllm.kv_layout import MOST_TOKENS, Kind, Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Layers that share block tables.

    Attributes:
        block_size: tokens of a block; 0 when its blocks do not depend on tokens.
        tables: how many groups are like this one.
        window: tokens back to which a new token looks; 0 for all.
        chunk: tokens of a chunk of chunked attention; 0 for none.
        most_blocks: blocks that one sequence takes at most when it is admitted (windows free what they have passed).
        fixed_blocks: blocks of every sequence whatever its length (states, an encoder's output).
    """

    block_size: int
    tables: int = 1
    window: int = 0
    chunk: int = 0
    most_blocks: int = MOST_TOKENS
    fixed_blocks: int = 0

    def skipped(self, computed: int) -> int:
        """Tokens at the front that no later token looks at once `computed` tokens are."""
        if self.window:
            return max(computed - self.window + 1, 0)
        return computed // self.chunk * self.chunk if self.chunk else 0

    def held(self, computed: int, new: int, in_flight: int = 0) -> int:
        """Blocks held while `new` tokens are computed after `computed`, of which the last `in_flight` are still under way."""
        if not self.block_size:
            return self.fixed_blocks
        # What is under way still reads what it looks back to.
        return -(-(computed + new) // self.block_size) - self.skipped(max(computed - in_flight, 0)) // self.block_size


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRule:
    """Blocks of a sequence over all groups.

    Attributes:
        groups: the groups.
    """

    groups: tuple[Group, ...]

    @classmethod
    def plain(cls, block_size: int) -> "BlockRule":
        """Full attention in one group."""
        return cls(groups=(Group(block_size=block_size),))

    @classmethod
    def of(cls, layout: Layout) -> "BlockRule":
        """The groups of a layout of vLLM's."""
        longest = layout.settings.max_model_len
        found: Counter[Group] = Counter()
        for group, term in zip(layout.groups, layout.terms, strict=True):
            spec, most = group.spec, term.blocks(longest)
            if spec.kind in {Kind.STATE, Kind.CROSS}:
                found[Group(block_size=0, fixed_blocks=most)] += 1
            elif spec.kind in {Kind.WINDOW, Kind.CHUNKED}:
                window, chunk = (spec.window, 0) if spec.kind is Kind.WINDOW else (0, spec.window)
                found[Group(block_size=spec.block_size, window=window, chunk=chunk, most_blocks=most)] += 1
            else:
                found[Group(block_size=spec.block_size)] += 1
        return cls(
            groups=tuple(
                Group(block_size=g.block_size, tables=n, window=g.window, chunk=g.chunk, most_blocks=g.most_blocks, fixed_blocks=g.fixed_blocks)
                for g, n in found.items()
            )
        )

    @property
    def simple_block_size(self) -> int:
        """The block size when all is one table of full attention; else 0."""
        first = self.groups[0]
        simple = len(self.groups) == 1 and first.tables == 1 and first.block_size and not first.window and not first.chunk
        return first.block_size if simple else 0

    def held(self, computed: int, new: int, in_flight: int = 0) -> int:
        """Blocks held while `new` tokens are computed after `computed`, of which the last `in_flight` are still under way."""
        return sum(g.tables * g.held(computed, new, in_flight) for g in self.groups)

    def admits(self, tokens: int) -> int:
        """Blocks that must be free before a sequence of so many known tokens is admitted (`full_sequence_must_fit`)."""
        return sum(g.tables * (min(-(-tokens // g.block_size), g.most_blocks) if g.block_size else g.fixed_blocks) for g in self.groups)

    def peak(self, tokens: int, chunk_tokens: int) -> int:
        """Most blocks that a sequence of `tokens` tokens in all ever holds or must find free, its prompt in chunks of `chunk_tokens`."""
        total = 0
        for g in self.groups:
            reach = g.window - 1 if g.window else g.chunk
            most = -(-min(tokens, reach + chunk_tokens) // g.block_size) + 1 if reach and g.block_size else MOST_TOKENS
            total += g.tables * (min(-(-tokens // g.block_size), most) if g.block_size else g.fixed_blocks)
        return max(total, self.admits(tokens))
