# ruff: noqa: PIE800  (rows of a table read better than one key a line)
"""GGUF files for tests, as bytes: a writer that needs no package, and the headers of real models at their true shapes.

The presets' shapes are those of the models' published config.json files; tensor tables follow llama.cpp's converter, so
that llama.cpp b11434 itself loads files made like these (truth/llama_cpp/dry_runs.jsonl was measured on them). Data
sections are left out: `Made.read` gives zeros for them.
"""

import math
import struct
from dataclasses import dataclass
from typing import Any

from vram.model.format import GGML

TYPES = {f.name: number for number, f in GGML.items()}
U8, I8, U16, I16, U32, I32, FLOAT, BOOL, STRING, ARRAY, U64, I64, DOUBLE = range(13)
_CODES = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", FLOAT: "f", BOOL: "?", U64: "Q", I64: "q", DOUBLE: "d"}


@dataclass(frozen=True, kw_only=True)
class Made:
    """A GGUF whose data is all zeros: its header, and the size that the whole file would have."""

    header: bytes
    size: int

    def read(self, offset: int, length: int) -> bytes:
        piece = self.header[offset : offset + length]
        return piece + bytes(max(0, min(length, self.size - offset) - len(piece)))


def text(value: bytes | str, order: str = "<") -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack(order + "Q", len(raw)) + raw


def entry(key: str, kind: int, value: Any, order: str = "<", item: int = U32) -> bytes:
    """One metadata entry; `item` is the type of an array's items."""
    head = text(key, order) + struct.pack(order + "I", kind)
    if kind == STRING:
        return head + text(value, order)
    if kind == ARRAY:
        head += struct.pack(order + "IQ", item, len(value))
        return head + (b"".join(text(v, order) for v in value) if item == STRING else struct.pack(f"{order}{len(value)}{_CODES[item]}", *value))
    return head + struct.pack(order + _CODES[kind], value)


def entries(metadata: dict[str, Any], order: str = "<") -> list[bytes]:
    """Metadata with the types that llama.cpp's converter uses."""
    made = []
    for key, value in metadata.items():
        if isinstance(value, (list, tuple)):
            item = BOOL if value and isinstance(value[0], bool) else STRING if value and isinstance(value[0], str) else U32
            made.append(entry(key, ARRAY, value, order, item))
        else:
            made.append(entry(key, {bool: BOOL, int: U32, float: FLOAT, str: STRING}[type(value)], value, order))
    return made


def make(metadata: dict[str, Any], tensors: list[tuple[str, tuple[int, ...], str]], *, order: str = "<", version: int = 3, alignment: int = 32) -> Made:
    """A GGUF of `tensors` (name, dimensions innermost first as ggml writes them, type)."""
    keys = entries(metadata, order)
    table, offset = [], 0
    for name, dims, kind in tensors:
        fmt = GGML[TYPES[kind]]
        table.append(text(name, order) + struct.pack(f"{order}I{len(dims)}QIQ", len(dims), *dims, TYPES[kind], offset))
        size = math.prod(dims) // fmt.block_elements * fmt.block_bytes
        offset += -(-size // alignment) * alignment
    head = b"GGUF" + struct.pack(order + "IQQ", version, len(tensors), len(keys)) + b"".join(keys) + b"".join(table)
    head += bytes(-len(head) % alignment)
    return Made(header=head, size=len(head) + offset)


PRESETS: dict[str, dict[str, Any]] = {
    "llama3.1-8b": {"arch": "llama", "L": 32, "d": 4096, "ff": 14336, "h": 32, "kv": 8, "hd": 128, "vocab": 128256, "ctx": 131072, "rope_freqs": True},
    "llama3.2-1b": {
        "arch": "llama",
        "L": 16,
        "d": 2048,
        "ff": 8192,
        "h": 32,
        "kv": 8,
        "hd": 64,
        "vocab": 128256,
        "ctx": 131072,
        "tied": True,
        "rope_freqs": True,
    },
    "llama3.1-70b": {"arch": "llama", "L": 80, "d": 8192, "ff": 28672, "h": 64, "kv": 8, "hd": 128, "vocab": 128256, "ctx": 131072, "rope_freqs": True},
    "llama2-7b": {"arch": "llama", "L": 32, "d": 4096, "ff": 11008, "h": 32, "kv": 32, "hd": 128, "vocab": 32000, "ctx": 4096},
    "llama2-13b": {"arch": "llama", "L": 40, "d": 5120, "ff": 13824, "h": 40, "kv": 40, "hd": 128, "vocab": 32000, "ctx": 4096},
    "qwen2.5-0.5b": {"arch": "qwen2", "L": 24, "d": 896, "ff": 4864, "h": 14, "kv": 2, "hd": 64, "vocab": 151936, "ctx": 32768, "tied": True, "qkv_bias": True},
    "qwen2.5-7b": {"arch": "qwen2", "L": 28, "d": 3584, "ff": 18944, "h": 28, "kv": 4, "hd": 128, "vocab": 152064, "ctx": 32768, "qkv_bias": True},
    "qwen2.5-32b": {"arch": "qwen2", "L": 64, "d": 5120, "ff": 27648, "h": 40, "kv": 8, "hd": 128, "vocab": 152064, "ctx": 32768, "qkv_bias": True},
    "qwen3-8b": {"arch": "qwen3", "L": 36, "d": 4096, "ff": 12288, "h": 32, "kv": 8, "hd": 128, "vocab": 151936, "ctx": 40960, "qk_norm": True},
    "qwen3-32b": {"arch": "qwen3", "L": 64, "d": 5120, "ff": 25600, "h": 64, "kv": 8, "hd": 128, "vocab": 151936, "ctx": 40960, "qk_norm": True},
    "qwen3-30b-a3b": {
        **{"arch": "qwen3moe", "L": 48, "d": 2048, "ff": 6144, "h": 32, "kv": 4, "hd": 128, "vocab": 151936, "ctx": 40960, "qk_norm": True},
        **{"n_exp": 128, "n_used": 8, "ff_exp": 768},
    },
    "mixtral-8x7b": {"arch": "llama", "L": 32, "d": 4096, "ff": 14336, "h": 32, "kv": 8, "hd": 128, "vocab": 32000, "ctx": 32768, "n_exp": 8, "n_used": 2},
    "gemma3-1b": {
        "arch": "gemma3",
        "L": 26,
        "d": 1152,
        "ff": 6912,
        "h": 4,
        "kv": 1,
        "hd": 256,
        "vocab": 262144,
        "ctx": 32768,
        "tied": True,
        "qk_norm": True,
        "swa": 512,
    },
    "gemma3-4b": {
        "arch": "gemma3",
        "L": 34,
        "d": 2560,
        "ff": 10240,
        "h": 8,
        "kv": 4,
        "hd": 256,
        "vocab": 262208,
        "ctx": 131072,
        "tied": True,
        "qk_norm": True,
        "swa": 1024,
    },
    "gemma3-12b": {
        "arch": "gemma3",
        "L": 48,
        "d": 3840,
        "ff": 15360,
        "h": 16,
        "kv": 8,
        "hd": 256,
        "vocab": 262208,
        "ctx": 131072,
        "tied": True,
        "qk_norm": True,
        "swa": 1024,
    },
    "gemma3-27b": {
        "arch": "gemma3",
        "L": 62,
        "d": 5376,
        "ff": 21504,
        "h": 32,
        "kv": 16,
        "hd": 128,
        "vocab": 262208,
        "ctx": 131072,
        "tied": True,
        "qk_norm": True,
        "swa": 1024,
    },
    "gpt-oss-20b": {
        **{"arch": "gpt-oss", "L": 24, "d": 2880, "ff": 2880, "h": 64, "kv": 8, "hd": 64, "vocab": 201088, "ctx": 131072},
        **{"n_exp": 32, "n_used": 4, "ff_exp": 2880, "swa": 128},
    },
    "deepseek-v2-lite": {
        **{"arch": "deepseek2", "L": 27, "d": 2048, "ff": 10944, "h": 16, "vocab": 102400, "ctx": 163840, "q_lora": 0, "kv_lora": 512, "rope": 64},
        **{"nope": 128, "vdim": 128, "n_exp": 64, "n_used": 6, "ff_exp": 1408, "n_shared": 2, "dense_lead": 1},
    },
    "deepseek-v3": {
        **{"arch": "deepseek2", "L": 61, "d": 7168, "ff": 18432, "h": 128, "vocab": 129280, "ctx": 163840, "q_lora": 1536, "kv_lora": 512, "rope": 64},
        **{"nope": 128, "vdim": 128, "n_exp": 256, "n_used": 8, "ff_exp": 2048, "n_shared": 1, "dense_lead": 3},
    },
    "mamba2-2.7b": {
        **{"arch": "mamba2", "L": 64, "d": 2560, "vocab": 50288, "ctx": 1048576, "tied": True},
        **{"d_conv": 4, "d_inner": 5120, "d_state": 128, "n_group": 1, "dt_rank": 80},
    },
    "falcon-h1-7b": {
        **{"arch": "falcon-h1", "L": 44, "d": 3072, "ff": 12288, "h": 12, "kv": 2, "hd": 128, "vocab": 130048, "ctx": 262144},
        **{"d_conv": 4, "d_inner": 3072, "d_state": 256, "n_group": 1, "dt_rank": 24},
    },
    "granite4-h-tiny": {
        **{"arch": "granitehybrid", "L": 40, "d": 1536, "ff": 512, "h": 12, "kv": 4, "hd": 128, "vocab": 100352, "ctx": 131072, "tied": True},
        **{
            "d_conv": 4,
            "d_inner": 3072,
            "d_state": 128,
            "n_group": 1,
            "dt_rank": 48,
            "n_exp": 64,
            "n_used": 6,
            "ff_shexp": 1024,
            "attn_layers": [5, 15, 25, 35],
        },
    },
    "qwen3-next-80b": {
        **{"arch": "qwen3next", "L": 48, "d": 2048, "ff": 5120, "h": 16, "kv": 2, "hd": 256, "vocab": 151936, "ctx": 262144, "rope": 64},
        **{
            "n_exp": 512,
            "n_used": 10,
            "ff_exp": 512,
            "ff_shexp": 512,
            "d_conv": 4,
            "d_inner": 4096,
            "d_state": 128,
            "n_group": 16,
            "dt_rank": 32,
            "interval": 4,
        },
    },
}


# Models that come with layers for multi-token prediction, as many as `nextn` says.
DRAFTING: dict[str, dict[str, Any]] = {
    "glm4.5-air": {
        **{"arch": "glm4moe", "L": 46, "d": 4096, "ff": 10944, "h": 96, "kv": 8, "hd": 128, "vocab": 151552, "ctx": 131072, "qkv_bias": True, "rope": 64},
        **{"n_exp": 128, "n_used": 8, "ff_exp": 1408, "n_shared": 1, "dense_lead": 1, "nextn": 1},
    },
    "qwen3-next-80b-mtp": {**PRESETS["qwen3-next-80b"], "nextn": 1},
    "deepseek-v3-mtp": {**PRESETS["deepseek-v3"], "nextn": 1},
}


def is_recurrent(p: dict[str, Any], i: int) -> bool:
    if i >= p["L"]:
        return False
    return p["arch"] == "mamba2" or (p["arch"] == "granitehybrid" and i not in p["attn_layers"]) or (p["arch"] == "qwen3next" and (i + 1) % p["interval"] != 0)


def tensor_table(p: dict[str, Any]) -> list[tuple[str, tuple[int, ...]]]:
    """The tensors of a preset, dimensions innermost first, as llama.cpp's converter writes them."""
    a, d = p["arch"], p["d"]
    out: list[tuple[str, tuple[int, ...]]] = []

    def add(name: str, *dims: int) -> None:
        out.append((name, dims))

    add("token_embd.weight", d, p["vocab"])
    add("output_norm.weight", d)
    if not p.get("tied"):
        add("output.weight", d, p["vocab"])
    if p.get("rope_freqs"):
        add("rope_freqs.weight", p["hd"] // 2)
    for i in range(p["L"] + p.get("nextn", 0)):
        b = f"blk.{i}."
        add(b + "attn_norm.weight", d)
        recurrent = is_recurrent(p, i)
        if a in {"mamba2", "falcon-h1"} or (a == "granitehybrid" and recurrent):
            inner, state, groups, heads = p["d_inner"], p["d_state"], p["n_group"], p["dt_rank"]
            channels = inner + 2 * groups * state
            add(b + "ssm_in.weight", d, inner + channels + heads)
            add(b + "ssm_conv1d.weight", p["d_conv"], channels)
            add(b + "ssm_conv1d.bias", channels)
            add(b + "ssm_dt.bias", heads)
            add(b + "ssm_a", 1, heads)
            add(b + "ssm_d", 1, heads)
            add(b + "ssm_norm.weight", inner // groups, groups)
            add(b + "ssm_out.weight", inner, d)
        if a == "qwen3next" and recurrent:
            state = p["d_state"]
            keys, values = state * p["n_group"], state * p["dt_rank"]
            add(b + "attn_qkv.weight", d, 2 * keys + values)
            add(b + "attn_gate.weight", d, values)
            add(b + "ssm_conv1d.weight", p["d_conv"], 2 * keys + values)
            add(b + "ssm_dt.bias", p["dt_rank"])
            add(b + "ssm_a", p["dt_rank"])
            add(b + "ssm_ba.weight", d, 2 * p["dt_rank"])
            add(b + "ssm_norm.weight", state)
            add(b + "ssm_out.weight", values, d)
        if a == "deepseek2":
            h, latent, rope, nope, value, rank = (p[k] for k in ("h", "kv_lora", "rope", "nope", "vdim", "q_lora"))
            if rank:
                add(b + "attn_q_a_norm.weight", rank)
                add(b + "attn_q_a.weight", d, rank)
                add(b + "attn_q_b.weight", rank, h * (nope + rope))
            else:
                add(b + "attn_q.weight", d, h * (nope + rope))
            add(b + "attn_kv_a_norm.weight", latent)
            add(b + "attn_kv_a_mqa.weight", d, latent + rope)
            add(b + "attn_k_b.weight", nope, latent, h)
            add(b + "attn_v_b.weight", latent, value, h)
            add(b + "attn_output.weight", h * value, d)
        elif not recurrent:
            h, kv, hd = p["h"], p["kv"], p["hd"]
            add(b + "attn_q.weight", d, h * hd * (2 if a == "qwen3next" else 1))
            add(b + "attn_k.weight", d, kv * hd)
            add(b + "attn_v.weight", d, kv * hd)
            add(b + "attn_output.weight", h * hd, d)
            if p.get("qkv_bias") or a == "gpt-oss":
                add(b + "attn_q.bias", h * hd)
                add(b + "attn_k.bias", kv * hd)
                add(b + "attn_v.bias", kv * hd)
            if a == "gpt-oss":
                add(b + "attn_output.bias", d)
                add(b + "attn_sinks.weight", h)
            if p.get("qk_norm") or a == "qwen3next":
                add(b + "attn_q_norm.weight", hd)
                add(b + "attn_k_norm.weight", hd)
        if a == "mamba2":
            continue
        if a == "gemma3":
            add(b + "post_attention_norm.weight", d)
            add(b + "post_ffw_norm.weight", d)
        if i >= p["L"]:
            add(b + "nextn.eh_proj.weight", 2 * d, d)
            for norm in ("enorm", "hnorm", "shared_head_norm"):
                add(b + f"nextn.{norm}.weight", d)
        if a in {"gpt-oss", "qwen3next", "glm4moe"}:
            add(b + "post_attention_norm.weight", d)
        else:
            add(b + ("ffn_norm" if a == "falcon-h1" else "ffn_norm.weight"), d)
        if p.get("n_exp") and i >= p.get("dense_lead", 0):
            experts, inner = p["n_exp"], p.get("ff_exp", p["ff"])
            add(b + "ffn_gate_inp.weight", d, experts)
            add(b + "ffn_gate_exps.weight", d, inner, experts)
            add(b + "ffn_down_exps.weight", inner, d, experts)
            add(b + "ffn_up_exps.weight", d, inner, experts)
            if a == "gpt-oss":
                add(b + "ffn_gate_inp.bias", experts)
                add(b + "ffn_gate_exps.bias", inner, experts)
                add(b + "ffn_down_exps.bias", d, experts)
                add(b + "ffn_up_exps.bias", inner, experts)
            if shared := p.get("ff_shexp") or p.get("n_shared", 0) * inner:
                add(b + "ffn_gate_shexp.weight", d, shared)
                add(b + "ffn_down_shexp.weight", shared, d)
                add(b + "ffn_up_shexp.weight", d, shared)
            if a == "qwen3next":
                add(b + "ffn_gate_inp_shexp.weight", d)
            if a == "glm4moe" or (a == "deepseek2" and p["q_lora"]):
                add(b + "exp_probs_b.bias", experts)
        else:
            add(b + "ffn_gate.weight", d, p["ff"])
            add(b + "ffn_down.weight", p["ff"], d)
            add(b + "ffn_up.weight", d, p["ff"])
    return out


_FALLBACK = {"Q2_K": "Q4_0", "Q3_K": "Q4_0", "IQ4_XS": "IQ4_NL", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}


def stored_type(name: str, dims: tuple[int, ...], quant: str, p: dict[str, Any]) -> str:
    """The type of one tensor in the files that truth/llama_cpp/dry_runs.jsonl was measured on."""
    matrix = sum(n > 1 for n in dims) > 1
    if not matrix or name.endswith((".bias", "ssm_a", "ssm_d")) or any(k in name for k in ("norm", "ffn_gate_inp", "ssm_conv1d", "rope_freqs", "sinks")):
        return "F32"
    base = kind = {"Q4_K_M": "Q4_K", "MXFP4": "MXFP4" if "exps" in name else "Q8_0"}.get(quant, quant)
    if quant == "Q4_K_M":
        layers = p["L"] + p.get("nextn", 0)
        i = int(name.split(".")[1]) if name.startswith("blk.") else 0
        more = i < layers // 8 or i >= 7 * layers // 8 or (i - layers // 8) % 3 == 2
        if name == "output.weight" or (name == "token_embd.weight" and p.get("tied")):
            kind = "Q6_K"
        elif ".attn_v." in name:
            kind = "Q8_0" if p.get("n_exp") == 8 else "Q6_K" if more else "Q5_K" if layers == 80 else "Q4_K"
        elif ".attn_v_b." in name or ".ffn_down" in name:
            kind = "Q6_K" if more else "Q4_K"
        elif p.get("n_exp") == 8 and ".attn_k." in name:
            kind = "Q8_0"
        elif p.get("n_exp") == 8 and ".attn_output." in name:
            kind = "Q5_K"
        else:
            kind = base
    for _ in range(2):
        if dims[0] % GGML[TYPES[kind]].block_elements:
            kind = _FALLBACK.get(kind, "F16") if kind in {"Q4_K", "Q5_K", "Q6_K"} else "F16"
    return kind


def metadata_of(p: dict[str, Any]) -> dict[str, Any]:
    """The metadata of a preset."""
    a = p["arch"]
    general = {"general.architecture": a, "general.name": "test"}
    own: dict[str, Any] = {
        **{
            "block_count": p["L"] + p.get("nextn", 0),
            "context_length": p["ctx"],
            "embedding_length": p["d"],
            "feed_forward_length": p.get("ff", 0),
            "vocab_size": p["vocab"],
        },
        "attention.layer_norm_rms_epsilon": 1e-5,
    }
    if a == "mamba2":
        own["attention.head_count"] = 0
    elif a == "deepseek2":
        own |= {
            **{"attention.head_count": p["h"], "attention.head_count_kv": 1, "attention.key_length": p["kv_lora"] + p["rope"]},
            **{"attention.value_length": p["kv_lora"], "attention.key_length_mla": p["nope"] + p["rope"], "attention.value_length_mla": p["vdim"]},
            **{"attention.kv_lora_rank": p["kv_lora"], "rope.dimension_count": p["rope"]},
            **{"leading_dense_block_count": p["dense_lead"], "expert_shared_count": p["n_shared"]},
        }
        if p["q_lora"]:
            own |= {"attention.q_lora_rank": p["q_lora"], "expert_gating_func": 2}
    else:
        kv = p["kv"] if a != "granitehybrid" else [p["kv"] if i in p["attn_layers"] else 0 for i in range(p["L"])]
        own |= {"attention.head_count": p["h"], "attention.head_count_kv": kv, "attention.key_length": p["hd"], "attention.value_length": p["hd"]}
        own["rope.dimension_count"] = p.get("rope", p["hd"])
    if p.get("nextn"):
        own["nextn_predict_layers"] = p["nextn"]
    if a == "glm4moe":
        own |= {"leading_dense_block_count": p["dense_lead"], "expert_shared_count": p["n_shared"], "expert_gating_func": 2}
    if p.get("swa"):
        own["attention.sliding_window"] = p["swa"]
    if p.get("n_exp"):
        own |= {"expert_count": p["n_exp"], "expert_used_count": p["n_used"]}
        if p.get("ff_exp"):
            own["expert_feed_forward_length"] = p["ff_exp"]
        if p.get("ff_shexp"):
            own["expert_shared_feed_forward_length"] = p["ff_shexp"]
    if "d_inner" in p:
        own |= {"ssm.conv_kernel": p["d_conv"], "ssm.inner_size": p["d_inner"], "ssm.state_size": p["d_state"]}
        own |= {"ssm.time_step_rank": p["dt_rank"], "ssm.group_count": p["n_group"]}
    return {**general, **{f"{a}.{k}": v for k, v in own.items()}, "tokenizer.ggml.model": "no_vocab"}


def preset(name: str, quant: str = "Q4_K_M", **changes: Any) -> Made:
    """The file of a real model at its true shapes, in the types that a quantization gives its tensors."""
    p = {**(PRESETS.get(name) or DRAFTING[name]), **changes}
    return make(metadata_of(p), [(n, dims, stored_type(n, dims, quant, p)) for n, dims in tensor_table(p)])
