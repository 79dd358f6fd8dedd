"""The widths of a model that are not visible in its tensors' bytes: what activations and splits are computed from."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Widths of the text model; 0 where the source does not tell.

    Attributes:
        hidden_size: width of the residual stream.
        intermediate_size: widest MLP layer of one token (for an MoE, the sum over its active experts).
        vocab_size: rows of the lm_head, hence width of the logits.
        attention_heads: query heads.
        kv_heads: key/value heads, the most of any layer.
        head_dim: width of a query head.
        experts: routed experts of a layer.
        experts_per_token: of which one token uses so many.
        max_context_tokens: the longest context that the publisher states.
        draft_layers: multi-token-prediction layers that a config states beside the decoder's (model/mtp.py).
        encoder_only: there is no decoding and no cache (BERT and its kin).
    """

    hidden_size: int = 0
    intermediate_size: int = 0
    vocab_size: int = 0
    attention_heads: int = 0
    kv_heads: int = 0
    head_dim: int = 0
    experts: int = 0
    experts_per_token: int = 0
    max_context_tokens: int = 0
    draft_layers: int = 0
    encoder_only: bool = False
