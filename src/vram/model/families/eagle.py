"""EAGLE heads: one layer or a few that read the target's hidden states, as their configs describe them.

vLLM 0.32's llama_eagle.py and llama_eagle3.py, and the published checkpoints that they load (arXiv:2401.15077, 2503.01840): EAGLE
joins the last state and the next token's embedding, EAGLE-3 three states of the target, and reads queries, keys and values
off embedding and state side by side; its head may have a smaller vocabulary, with a table that maps it to the target's.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from vram.model.families.sketch import Sketch
from vram.model.format import SAFETENSORS
from vram.model.role import Component, Role, role_of
from vram.model.tensor import Tensor

STATES: Final = 3
_READS: Final = frozenset({Role.QUERY, Role.KEY_VALUE, Role.QKV})


def version_of(config: Mapping[str, Any]) -> int:
    """1 or 3 for a config of an EAGLE head, 0 for none."""
    names = config.get("architectures")
    name = names[0].lower() if isinstance(names, list) and names and isinstance(names[0], str) else ""
    return 0 if "eagle" not in name else 3 if "eagle3" in name else 1


def redrawn(sketch: Sketch, config: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """The tensors of the plain decoder that `config` names, as an EAGLE head has them."""
    version, hidden = version_of(config), sketch.geometry.hidden_size
    dtype = next((t.format for t in sketch.tensors if t.role is Role.EMBEDDING), SAFETENSORS["BF16"])
    out = []
    for t in sketch.tensors:
        if version == 1 and ((t.layer == 0 and "input_layernorm" in t.name) or (t.layer is None and t.role is Role.NORM)):
            continue
        if version == 3 and t.layer == 0 and t.role in _READS and len(t.shape) == 2:
            out.append(replace(t, shape=(t.shape[0], 2 * t.shape[1])))
        elif version == 3 and t.role is Role.LM_HEAD and len(t.shape) == 2:
            out.append(replace(t, shape=(_size(config, "draft_vocab_size") or t.shape[0], t.shape[1])))
        else:
            out.append(t)
    states = STATES * (_size(config, "target_hidden_size") or hidden) if version == 3 else 2 * hidden
    out.append(Tensor(name="fc.weight", shape=(hidden, states), format=dtype, role=Role.OTHER, component=Component.TEXT))
    if version == 3:
        out.append(Tensor(name="layers.#.hidden_norm.weight", shape=(hidden,), format=dtype, role=role_of("layers.#.hidden_norm.weight"), layer=0))
        if small := _size(config, "draft_vocab_size"):
            out.append(Tensor(name="d2t", shape=(small,), format=SAFETENSORS["I64"], role=Role.BUFFER, packed=0))
    return tuple(out)


def _size(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**24 else 0
