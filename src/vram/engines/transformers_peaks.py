"""Working memory of a forward pass of Hugging Face transformers, by moments: one layer's MLP, one layer's attention, the logits.

Read in transformers 5.23 (modeling_llama.py, modeling_mixtral.py, sdpa_attention.py, generation/utils.py; Apache-2.0) and held
against peaks of real forward passes (truth/transformers_peaks.jsonl): what is alive at the same time, in numbers for each token
of the prompt. The whole prompt passes at once. Scans of recurrent layers and vision towers are not known here.
"""

from dataclasses import dataclass
from typing import Final

from vram.model.cache import ChunkedCache, FullCache, LatentCache, WindowCache
from vram.model.memo import once_per_model
from vram.model.model import Model
from vram.model.role import Component, Role

# Residual stream, normed copy and the two sums of a decoder layer; embeddings are freed before.
_STREAMS: Final = 4
# Up, activated gate and their product; a fused projection keeps its output of both halves besides.
_GATED, _FUSED, _PLAIN = 3, 4, 2
# The combination of experts: their inputs, outputs, weighted outputs and those in the order of the tokens; where the router's
# weights are 32-bit numbers, so are the last two.
_COMBINED, _COMBINED_WIDE = 4, 6
_WIDE_ROUTERS: Final = ("deepseek", "glm4_moe", "glm_moe", "kimi", "longcat", "dots1")
# A latent cache is expanded for all heads at every step: keys and values out of the projection, and the keys put together, for
# heads of 128 + 64 and values of 128 (DeepSeek) 448 numbers where a query head has 192.
_EXPANDED: Final = 7 / 3
# Eager attention in 16-bit numbers for each score: the scores, their copy in 32 bits and its softmax; with sinks three
# copies of the model's type.
_SCORE_NUMBERS, _SINK_SCORE_NUMBERS = 5, 3
# Token ids and positions, 8 bytes each, in 16-bit numbers.
_INDICES: Final = 8
_LOGIT_BYTES: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What shapes the moments; widths in numbers for each token.

    Attributes:
        stream: the residual stream and its copies, rotary tables and indices.
        mlp: the MLP or the experts.
        queries: all query heads.
        repeated: keys and values repeated for all query heads, 0 where there is one for each.
        heads: query heads.
        scores: numbers for each score of eager attention.
        windows: whether some layers look back only so far, so that attention needs a mask.
        window: the widest of those windows.
        kinds: kinds of masks (full, window).
        expanded: keys and values made of a latent cache for all heads, 0 without one.
        logits: numbers for each logit when those of all tokens are kept (a soft cap keeps a second copy).
    """

    stream: int
    mlp: int
    queries: int
    repeated: int
    heads: int
    scores: int
    windows: bool
    window: int
    kinds: int
    expanded: int
    logits: int


@once_per_model
def shape(model: Model) -> Shape:
    """Read off the geometry, the caches and the names of the tensors."""
    g = model.geometry
    names = {t.name for t in model.tensors if t.component is Component.TEXT and t.role in {Role.MLP, Role.EXPERT, Role.SHARED_EXPERT, Role.ATTENTION}}
    fused = any("gate_up" in n or "gate_and_up" in n for n in names)
    gated = fused or any(word in n for n in names for word in ("gate_proj", "w1", "w3", "ffn_gate", "wi_0"))
    reach = {c.window if isinstance(c, (WindowCache, LatentCache)) else c.chunk for c, _ in model.cache_counts if isinstance(c, (WindowCache, ChunkedCache))}
    full = any(isinstance(c, (FullCache, LatentCache)) and not isinstance(c, (WindowCache, ChunkedCache)) for c, _ in model.cache_counts)
    inner = g.intermediate_size
    if g.experts and g.experts_per_token:
        combined = _COMBINED_WIDE if model.model_type.startswith(_WIDE_ROUTERS) else _COMBINED
        mlp = max(_FUSED * inner + g.experts_per_token * g.hidden_size, combined * g.experts_per_token * g.hidden_size)
    else:
        mlp = inner * (_FUSED if fused else _GATED if gated else _PLAIN)
    queries = g.attention_heads * g.head_dim
    latent = any(isinstance(c, LatentCache) for c, _ in model.cache_counts)
    return Shape(
        stream=_STREAMS * g.hidden_size + 2 * g.head_dim * (1 + bool(reach and full)) + _INDICES,
        mlp=mlp,
        queries=queries,
        repeated=2 * queries if g.kv_heads and g.kv_heads < g.attention_heads else 0,
        heads=g.attention_heads,
        scores=_SINK_SCORE_NUMBERS if any("sink" in n for n in names) else _SCORE_NUMBERS,
        windows=bool(reach),
        window=max(reach, default=0),
        kinds=bool(reach) + full,
        expanded=int(queries * _EXPANDED) if latent else 0,
        logits=2 if model.model_type in {"gemma2", "gemma3n", "gemma3n_text"} else 1,
    )


def prefill_bytes(model: Model, tokens: int, sequences: int, *, fused_attention: bool, all_logits: bool = False, upcast: bool = False) -> int:
    """Bytes beside weights and cache at the worst instant of a prefill of `sequences` prompts of `tokens` tokens each.

    Args:
        model: the model; its widths must be known.
        tokens: tokens of one prompt.
        sequences: prompts of the batch.
        fused_attention: SDPA or FlashAttention, so that no scores are held; else eager.
        all_logits: those of the whole prompt, as a plain `forward` returns them; `generate` asks for the last token's.
        upcast: they are copied in 32 bits, as before 4.45.
    """
    g, s, size = model.geometry, shape(model), model.dtype.block_bytes
    rows = tokens * sequences
    masks = scores = 0
    if fused_attention:
        # A causal mask is left to the kernel; that of a window is made, one byte a score, once the prompt outgrows the window.
        masks = tokens * tokens if s.windows and tokens > s.window else 0
        if masks:
            scores = tokens * tokens * size + s.repeated * tokens * size  # the kernel's bias, and repeated keys and values
    else:
        masks = s.kinds * tokens * tokens * size
        scores = s.scores * s.heads * tokens * rows * 2 + s.repeated * rows * size
    stream = s.stream * rows * size
    # Eager attention returns its weights, and the layer holds them till its end.
    kept = 0 if fused_attention else s.heads * tokens * rows * size
    layer = max(s.mlp * rows * size + kept, scores + (s.queries * fused_attention + s.expanded) * rows * size)
    rows_kept = rows if all_logits else sequences
    logits = rows_kept * g.vocab_size * (s.logits * size + (0 if all_logits and not upcast else _LOGIT_BYTES))
    return max(stream + masks + layer, logits + rows * (g.hidden_size * size + _INDICES) * all_logits)


def decode_bytes(model: Model, tokens: int, sequences: int, largest_layer_bytes: int, *, fused_attention: bool) -> int:
    """Bytes beside weights and cache of one decode step: half a layer's cache is written anew beside the old, and the logits.

    `largest_layer_bytes` is what the layer with the largest cache holds.
    """
    g, s, size = model.geometry, shape(model), model.dtype.block_bytes
    moments = [
        largest_layer_bytes // 2 + (s.stream + s.mlp) * sequences * size,
        sequences * g.vocab_size * (size + _LOGIT_BYTES),
        s.expanded * tokens * sequences * size,
    ]
    if not fused_attention:
        moments.append((s.heads * s.scores * 2 + s.repeated * size) * tokens * sequences)
    return max(moments)
