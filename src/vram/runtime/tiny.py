"""A tiny language model with random weights and a working tokenizer, written as a GGUF on the spot. What it says is noise.

It is there to show and to test a whole run with a real engine where no model is at hand: requests, streams, usage and memory are real,
the words are not. Format: github.com/ggml-org/ggml/blob/master/docs/gguf.md; names of tensors and keys: llama.cpp's `llama` architecture.
"""

import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

_ALIGNMENT: Final = 32
_U32, _F32, _BOOL, _STRING, _ARRAY = 4, 6, 7, 8, 9
_TYPE_F32: Final = 0
_NORMAL, _CONTROL = 1, 3
END: Final = "<|end|>"
LOUD: Final = 3.0
"""How much likelier than chance the readable tokens are made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What the model looks like: some 450,000 weights, so that a busy laptop makes thousands of tokens a second."""

    layers: int = 2
    hidden: int = 128
    mlp: int = 256
    heads: int = 4
    kv_heads: int = 2
    head: int = 32
    vocabulary: int = 512
    context: int = 2048


def write_tiny(path: Path, shape: Shape | None = None, *, seed: int = 0) -> Path:
    """Write the model to `path`, whole or not at all.

    Raises:
        OSError: the folder cannot be written to.
    """
    shape = shape or Shape()
    rng = np.random.default_rng(seed)
    head, data = bytearray(), bytearray()
    tensors = _tensors(shape)
    keys = _keys(shape)
    for name, dims in tensors:
        norm = "norm" in name
        size = math.prod(dims)
        # Unit norms, and weights small enough that activations neither vanish nor grow.
        values = np.ones(size) if norm else rng.standard_normal(size) / math.sqrt(dims[0])
        if name == "output.weight":
            # Only what can be read is likely to be said: loose bytes of no character would hold up servers that wait for a whole one.
            rows = values.reshape(shape.vocabulary, shape.hidden)
            rows[[not _readable(token) for token in _vocabulary(shape)[0]]] = 0.0
            rows *= LOUD
        head += _text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, _TYPE_F32, len(data))
        data += values.astype(np.float32).tobytes()
        data += bytes(-len(data) % _ALIGNMENT)
    top = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)) + b"".join(keys) + bytes(head)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Of this process alone: another one may be writing the same model.
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        draft.write_bytes(top + bytes(-len(top) % _ALIGNMENT) + bytes(data))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def _tensors(s: Shape) -> list[tuple[str, tuple[int, ...]]]:
    """Names and dimensions, innermost first."""
    found: list[tuple[str, tuple[int, ...]]] = [
        ("token_embd.weight", (s.hidden, s.vocabulary)),
        ("output_norm.weight", (s.hidden,)),
        ("output.weight", (s.hidden, s.vocabulary)),
    ]
    for i in range(s.layers):
        b = f"blk.{i}."
        found += [
            (f"{b}attn_norm.weight", (s.hidden,)),
            (f"{b}attn_q.weight", (s.hidden, s.heads * s.head)),
            (f"{b}attn_k.weight", (s.hidden, s.kv_heads * s.head)),
            (f"{b}attn_v.weight", (s.hidden, s.kv_heads * s.head)),
            (f"{b}attn_output.weight", (s.heads * s.head, s.hidden)),
            (f"{b}ffn_norm.weight", (s.hidden,)),
            (f"{b}ffn_gate.weight", (s.hidden, s.mlp)),
            (f"{b}ffn_up.weight", (s.hidden, s.mlp)),
            (f"{b}ffn_down.weight", (s.mlp, s.hidden)),
        ]
    return found


def _keys(s: Shape) -> list[bytes]:
    tokens, kinds, merges = _vocabulary(s)
    entries: list[tuple[str, int, Any]] = [
        ("general.architecture", _STRING, "llama"),
        ("general.name", _STRING, "tiny, random weights"),
        ("general.alignment", _U32, _ALIGNMENT),
        ("general.file_type", _U32, 0),
        ("llama.block_count", _U32, s.layers),
        ("llama.context_length", _U32, s.context),
        ("llama.embedding_length", _U32, s.hidden),
        ("llama.feed_forward_length", _U32, s.mlp),
        ("llama.attention.head_count", _U32, s.heads),
        ("llama.attention.head_count_kv", _U32, s.kv_heads),
        ("llama.attention.key_length", _U32, s.head),
        ("llama.attention.value_length", _U32, s.head),
        ("llama.rope.dimension_count", _U32, s.head),
        ("llama.rope.freq_base", _F32, 10000.0),
        ("llama.attention.layer_norm_rms_epsilon", _F32, 1e-5),
        ("llama.vocab_size", _U32, s.vocabulary),
        ("tokenizer.ggml.model", _STRING, "gpt2"),
        ("tokenizer.ggml.pre", _STRING, "gpt-2"),
        ("tokenizer.ggml.tokens", _ARRAY, tokens),
        ("tokenizer.ggml.token_type", _ARRAY, kinds),
        ("tokenizer.ggml.merges", _ARRAY, merges),
        ("tokenizer.ggml.bos_token_id", _U32, 0),
        ("tokenizer.ggml.eos_token_id", _U32, 0),
        ("tokenizer.ggml.add_bos_token", _BOOL, False),
        ("tokenizer.chat_template", _STRING, "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"),
    ]
    return [_entry(*entry) for entry in entries]


def _vocabulary(s: Shape) -> tuple[list[str], list[int], list[str]]:
    """Tokens, their kinds, and what is merged to them."""
    # A byte-level vocabulary: every text has its tokens, and every token but the end's is a text.
    tokens, kinds, merges = [END, *_byte_symbols()], [_CONTROL, *[_NORMAL] * 256], []
    for first in "abcdefghijklmnopqrstuvwxyz":
        for second in "aeiounrst":
            if len(tokens) < s.vocabulary:
                tokens.append(first + second)
                kinds.append(_NORMAL)
                merges.append(f"{first} {second}")
    while len(tokens) < s.vocabulary:
        tokens.append(f"Ġ{len(tokens)}")
        kinds.append(_NORMAL)
    return tokens, kinds, merges


def _readable(token: str) -> bool:
    """Whether it is ASCII that is seen, with a space (which the vocabulary writes as Ġ) before it or not."""
    return token != END and token.replace("Ġ", " ").isascii()


def _entry(key: str, kind: int, value: Any) -> bytes:
    head = _text(key) + struct.pack("<I", kind)
    if kind == _STRING:
        return head + _text(value)
    if kind == _ARRAY:
        item = _STRING if isinstance(value[0], str) else 5  # int32, as converters write token types
        body = b"".join(map(_text, value)) if item == _STRING else struct.pack(f"<{len(value)}i", *value)
        return head + struct.pack("<IQ", item, len(value)) + body
    return head + struct.pack({_U32: "<I", _F32: "<f", _BOOL: "<?"}[kind], value)


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def _byte_symbols() -> list[str]:
    """The 256 symbols that GPT-2's tokenizer writes bytes with (openai/gpt-2, encoder.py: bytes_to_unicode)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + n) for n in range(len(rest))]
