"""Checkpoints that llama-server keeps of past prompts, in the host's memory: of what a cache cannot be rolled back to. Rules of b11434.

Read from its source: server_context::create_checkpoint and the conditions before it (tools/server/server-context.cpp), llama_kv_cache::state_write and
llama_memory_recurrent::state_write. Held against what a real server prints of them and grows by in tests/oracle/test_llama_cpp_checkpoints.py. A server
saves one where the last user's message starts and twice shortly before a prompt ends; each slot keeps so many, the oldest goes first.
"""

from typing import Final

from vram.engines.llama_cpp import layer_kinds, looks_back, windows_honoured
from vram.memory.part import Part
from vram.model.cache import CompressedCache, CrossCache, FullCache, LatentCache, StateCache
from vram.model.format import F32, Format
from vram.model.memo import once_per_model
from vram.model.model import Model
from vram.units import MIB

MOST: Final = 32
"""`--ctx-checkpoints` of a server that is told none, for each slot (common/common.h)."""
LEAST: Final = 1
"""A slot that keeps none reads a chat anew from its beginning wherever the last answer's words come back otherwise."""
OF_ONE_REQUEST: Final = 3
"""Where its last message starts, a physical batch and four tokens before its end, and four tokens before that."""
CELL_BYTES: Final = 12
"""Beside each cell: its position, a count, its sequence."""
TENSOR_BYTES: Final = 12
"""Before each layer's keys, values or states: their type and the size of a row."""
HEAD_BYTES: Final = 64


@once_per_model
def checkpoint_bytes(model: Model, context_tokens: int, key: Format, value: Format, swa_full: bool, window_cells: int) -> int:  # noqa: FBT001  (a key, not a switch)
    """One checkpoint of a prompt of `context_tokens`: the cells that windows still see, and the states; 0 for a model whose caches keep every token.

    Args:
        model: the model.
        context_tokens: tokens of the prompt.
        key: type of the keys.
        value: type of the values.
        swa_full: windowed layers keep every token.
        window_cells: cells of windowed layers that builds before PR #23981 save, seen or not; 0: those that the window sees.
    """
    kinds, places = layer_kinds(model)
    honoured = windows_honoured(model)
    rows, states, widest = [0] * len(kinds), [0] * len(kinds), 0
    cells = [0] * len(kinds)

    def seen(window: int) -> int:
        return min(window_cells or window, context_tokens) if window and honoured else 0

    for n, kind in enumerate(kinds):
        for c in kind:
            match c:
                case StateCache():
                    # As in a context: one column of the convolution's window is the token being computed.
                    columns = c.conv_elements // c.conv_kernel * (c.conv_kernel - 1) if c.conv_kernel else c.conv_elements
                    states[n] += F32.nbytes(columns + c.state_elements) + 2 * TENSOR_BYTES
                case LatentCache():
                    cells[n] = seen(c.window)
                    rows[n] += cells[n] * key.nbytes(c.latent_dim + c.rope_dim) + TENSOR_BYTES
                case CompressedCache():
                    states[n] += F32.nbytes(c.open_elements * (2 if c.overlap else 1)) + 2 * TENSOR_BYTES
                case CrossCache():
                    pass
                case FullCache():
                    cells[n] = seen(looks_back(c))
                    rows[n] += cells[n] * (key.nbytes(c.kv_heads * c.key_dim) + value.nbytes(c.kv_heads * c.value_dim)) + 2 * TENSOR_BYTES
                case _:
                    pass
        widest = max(widest, cells[n])
    kept = sum([states[i] for i in places])
    # With every token of the windows kept, only states cannot be rolled back; what windows see is then saved with them.
    if not kept and (swa_full or not widest):
        return 0
    return kept + sum([rows[i] for i in places if cells[i]]) + widest * CELL_BYTES + HEAD_BYTES


def checkpoints_part(one_bytes: int, most: int, slots: int, sequences: int) -> Part | None:
    """What all slots keep; None where nothing is kept.

    Args:
        one_bytes: one checkpoint.
        most: checkpoints a slot.
        slots: slots of the server.
        sequences: requests at the same time: each leaves its own, all others come with later turns.
    """
    if not one_bytes or not most:
        return None
    return Part(
        bytes=one_bytes * min(most, OF_ONE_REQUEST) * sequences,
        low=0,
        high=one_bytes * most * slots,
        source="formula",
        why=f"checkpoints of past prompts, {most} a slot at most (--ctx-checkpoints), {one_bytes / MIB:.1f} MiB each",
    )
