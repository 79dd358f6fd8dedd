"""A GGUF that a real llama.cpp serves: the shape of a small Llama, random weights, a byte-pair vocabulary of real words, a chat template."""

import math
from pathlib import Path
from typing import Any, Final

import numpy as np
from data.make_gguf import make, metadata_of, tensor_table

_SAYING: Final = (
    "the river ran under a stone bridge and nobody knew how old it was because all who had built it were gone long before the first map "
    "of this valley had been drawn by someone who never saw it with his own eyes"
)
_STATES: Final = frozenset({"ssm_conv1d", "ssm_a", "ssm_d", "ssm_norm"})
WORDS: Final = _SAYING.split()
SHAPE: Final[dict[str, Any]] = {"arch": "llama", "L": 4, "d": 128, "ff": 384, "h": 4, "kv": 2, "hd": 32, "vocab": 640, "ctx": 32768, "tied": True}
TEMPLATE: Final = "{% if tools %}tools: {{ tools | tojson }}\n{% endif %}{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"


def _vocabulary(size: int) -> tuple[list[str], list[str]]:
    """Tokens and merges: bytes as GPT-2 spells them, the words above (each with its space) letter by letter, fillers."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    tokens = [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    merges = []
    for word in dict.fromkeys(WORDS):
        have = "\u0120"
        for letter in word:
            if have + letter not in tokens:
                tokens.append(have + letter)
                merges.append(f"{have} {letter}")
            have += letter
    assert len(tokens) < size - 2
    tokens += [f"<f{i}>" for i in range(size - 2 - len(tokens))]
    return [*tokens, "<s>", "</s>"], merges


def write(path: Path, *, seed: int = 0, **changes: Any) -> Path:
    """The file. Prompts of words of `WORDS` are a token a word."""
    p = {**SHAPE, **changes}
    tokens, merges = _vocabulary(p["vocab"])
    meta = {k: v for k, v in metadata_of(p).items() if k not in {"tokenizer.ggml.model", f"{p['arch']}.vocab_size"}}
    meta |= {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2", "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.merges": merges}
    meta |= {"tokenizer.ggml.bos_token_id": p["vocab"] - 2, "tokenizer.ggml.eos_token_id": p["vocab"] - 1, "tokenizer.ggml.add_bos_token": False}
    meta["tokenizer.chat_template"] = TEMPLATE
    # What a state-space layer multiplies its states with is never stored in less (ssm_out and ssm_in are linears as any other).
    table = [(name, dims, "F32" if len(dims) == 1 or name.split(".")[-2 if name.endswith("t") else -1] in _STATES else "F16") for name, dims in tensor_table(p)]
    made = make(meta, table)
    draw = np.random.default_rng(seed)
    with path.open("wb") as f:
        f.write(made.header)
        for name, dims, kind in table:
            values = np.ones(dims) if "norm" in name else draw.standard_normal(math.prod(dims)) * (1.0 if "embd" in name else 0.1)
            data = values.astype(np.float32 if kind == "F32" else np.float16).tobytes()
            f.write(data + bytes(-len(data) % 32))
    assert path.stat().st_size == made.size
    return path


def text(words: int, start: int = 0) -> str:
    """So many words, each a token but for the first letter's."""
    return "".join(f" {WORDS[(start * 7 + i) % len(WORDS)]}" for i in range(words))
