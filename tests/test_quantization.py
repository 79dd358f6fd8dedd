"""Quantization rules against published files, against the layouts that the methods' own packages document, and against nonsense."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vram.errors import ModelFormatError, UsageError
from vram.model.families.config import Config
from vram.model.families.registry import build
from vram.model.format import BF16, F8_E4M3, F16
from vram.model.model import Model
from vram.model.quantization.base import METHODS, apply_config, quantization_config_of
from vram.model.quantization.named import GGUF_NAMES, QUANT_NAMES, canonical, requantize
from vram.model.role import Component, Role
from vram.model.tensor import Tensor
from vram.readers.config_json import quantization_config

CHECKPOINTS = json.loads((Path(__file__).parent / "data" / "quantised_checkpoints.json").read_text())["checkpoints"]
HEADER_BYTES_PER_TENSOR = (90, 140)  # a name, a dtype, a shape and two offsets in JSON


def linear(name="model.layers.#.mlp.up_proj.weight", out=512, inner=1024, *, role=Role.MLP, layer=0, count=1, fmt=BF16, component=Component.TEXT):
    return Tensor(name=name, shape=(out, inner), format=fmt, role=role, layer=layer, count=count, component=component)


def small_model():
    """Two layers of attention, MLP and experts with all that must stay as it is around them, and a vision tower."""
    c = {
        "hidden_size": 256,
        "intermediate_size": 512,
        "moe_intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "vocab_size": 1000,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [0],
        "tie_word_embeddings": False,
        "model_type": "qwen3_moe",
    }
    s = build(Config(c))
    tower = linear("model.visual.blocks.0.attn.qkv.weight", 768, 256, role=Role.QKV, layer=None, component=Component.VISION)
    return Model(name="small", architecture="", model_type="qwen3_moe", tensors=(*s.tensors, tower))


def by_suffix(tensors, suffix):
    return [t for t in tensors if t.name.endswith(suffix)]


@pytest.mark.parametrize("row", CHECKPOINTS, ids=lambda r: r["id"])
def test_bytes_equal_published_files(row):
    """Config to bytes is what the publisher's safetensors hold, up to their headers; where a deviation is known it is 0.02 %."""
    s = build(Config(row["config"]))
    done = apply_config(s.tensors, row["quantization_config"])
    ours, count = sum(t.nbytes for t in done.tensors), sum(t.count for t in done.tensors)
    if row["source"] == "index":
        # Its A_log are F32 (24 layers x 32 heads x 2 bytes more), which no config tells.
        assert row["bytes"] - ours == 24 * 32 * 2
    elif "scales" in row:
        assert ours == pytest.approx(row["bytes"], rel=2e-4)
    else:
        low, high = HEADER_BYTES_PER_TENSOR
        assert count * low < row["bytes"] - ours < count * high


@pytest.mark.parametrize("row", CHECKPOINTS, ids=lambda r: r["id"])
def test_logical_parameters_stay(row):
    """Packing changes bytes, never the number of parameters."""
    s = build(Config(row["config"]))
    done = apply_config(s.tensors, row["quantization_config"])
    assert sum(t.parameters for t in done.tensors) == sum(t.parameters for t in s.tensors)


def test_bitsandbytes_equals_a_published_index():
    """Molmo-7B-D in NF4: 6,661,964,712 bytes for 8,021,025,280 parameters, its tower and head in float16 (model.safetensors.index.json)."""
    shapes = [(4608, 3584), (3584, 3584), (37888, 3584), (3584, 18944)]
    blocks = [linear(f"model.transformer.blocks.#.mlp.w{i}_proj.weight", *s, fmt=F16, count=28) for i, s in enumerate(shapes)]
    quantised = sum(t.parameters for t in blocks)
    done = apply_config(blocks, {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"})
    assert sum(t.nbytes for t in done.tensors) + 2 * (8_021_025_280 - quantised) == 6_661_964_712


LLAMA_8B = {"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False, "torch_dtype": "bfloat16"}  # fmt: skip
LLAMA_70B = {**LLAMA_8B, "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64}
QWEN3_8B = next(r["config"] for r in CHECKPOINTS if r["id"] == "Qwen/Qwen3-8B-FP8")
QWEN3_30B = next(r["config"] for r in CHECKPOINTS if r["id"] == "Qwen/Qwen3-30B-A3B-Instruct-2507-FP8")
BLOCKS = {"quant_method": "fp8", "weight_block_size": [128, 128]}
STATIC = {"quant_method": "compressed-tensors", "format": "float-quantized", "ignore": ["lm_head"], "config_groups": {"a": {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "float", "strategy": "tensor"}, "input_activations": {"dynamic": False}}}}  # fmt: skip
DYNAMIC = {"quant_method": "compressed-tensors", "format": "float-quantized", "ignore": ["lm_head"], "config_groups": {"a": {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "float", "strategy": "channel"}, "input_activations": {"dynamic": True}}}}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "quantization", "numbers"),
    [
        (QWEN3_8B, BLOCKS, 8_191_159_296),  # Qwen/Qwen3-8B-FP8
        (QWEN3_30B, BLOCKS, 30_533_947_392),  # Qwen/Qwen3-30B-A3B-Instruct-2507-FP8
        (LLAMA_8B, STATIC, 8_030_261_696),  # RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8
        (LLAMA_8B, DYNAMIC, 8_031_637_504),  # RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8-dynamic
        (LLAMA_70B, DYNAMIC, 70_560_423_936),  # RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic
    ],
)
def test_stored_numbers_equal_the_hubs_totals(config, quantization, numbers):
    """As many numbers are stored, scales included, as the hub counts in the published files (its safetensors total)."""
    done = apply_config(build(Config(config)).tensors, quantization)
    assert sum(t.elements for t in done.tensors) == numbers


@pytest.mark.parametrize(("config", "numbers"), [(QWEN3_8B, 4_717_851_648), (QWEN3_30B, 15_583_623_168)])
def test_nvfp4_stores_the_hubs_totals(config, numbers):
    """nvidia/Qwen3-8B-NVFP4 and Qwen3-30B-A3B-NVFP4: packed weights and all that stays in 16 bits; the hub leaves the scales out."""
    done = apply_config(build(Config(config)).tensors, {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]})
    assert sum(t.elements for t in done.tensors if t.packed) == numbers


def test_where_a_config_keeps_its_quantization():
    """The object is found at the top, in the text model, under MLX's and older names; DeepSeek-V4's experts are FP4 by a field beside it."""
    q = {"quant_method": "fp8"}
    for holder in ({"quantization_config": q}, {"text_config": {"quantization_config": q}}, {"compression_config": q}, {"quantization": q}):
        assert quantization_config_of(holder) == q
    assert quantization_config_of({"quantization_config": q, "expert_dtype": "fp4"}) == {**q, "expert_dtype": "fp4"}
    assert quantization_config_of({"model_type": "llama", "quantization_config": None}) is None


def test_fp4_experts_beside_fp8():
    """DeepSeek-V4: experts in pairs with a scale for 32 columns, all else in fp8 blocks; in NVFP4 editions experts have modelopt's layout."""
    experts = linear("model.layers.#.mlp.experts.*.up_proj.weight", 512, 1024, role=Role.EXPERT, count=4)
    four = apply_config([experts, linear()], {**BLOCKS, "scale_fmt": "ue8m0", "expert_dtype": "fp4"})
    assert sum(t.nbytes for t in four.tensors) == 4 * (512 * 512 + 512 * 32) + 512 * 1024 + 4 * 8
    nv = apply_config([experts, linear()], {**BLOCKS, "moe_quant_algo": "NVFP4", "ignore": ["*.attn.*"]})
    assert sum(t.nbytes for t in nv.tensors) == 4 * (512 * 512 + 512 * 64 + 8) + 512 * 1024 + 4 * 8 * 4


# Bytes of one [512, 1024] layer, counted by hand from the shapes that each method's package documents (see the methods' files).
@pytest.mark.parametrize(
    ("config", "nbytes"),
    [
        ({"quant_method": "fp8"}, 512 * 1024 + 4),
        ({"quant_method": "fp8", "activation_scheme": "static"}, 512 * 1024 + 8),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, 512 * 1024 + 4 * 8 * 4),
        ({"quant_method": "fbgemm_fp8"}, 512 * 1024 + 512 * 4),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, 128 * 512 * 4 + 8 * 64 * 4 + 8 * 512 * 2 + 1024 * 4),
        ({"quant_method": "gptq", "bits": 4, "group_size": -1}, 128 * 512 * 4 + 64 * 4 + 512 * 2 + 1024 * 4),
        ({"quant_method": "gptq", "bits": 3, "group_size": 128}, 96 * 512 * 4 + 8 * 48 * 4 + 8 * 512 * 2 + 1024 * 4),
        ({"quant_method": "gptq", "bits": 8, "group_size": 32}, 256 * 512 * 4 + 32 * 128 * 4 + 32 * 512 * 2 + 1024 * 4),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128, "checkpoint_format": "marlin"}, 64 * 1024 * 4 + 8 * 512 * 2),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, 1024 * 64 * 4 + 8 * 64 * 4 + 8 * 512 * 2),
        ({"quant_method": "awq", "bits": 4, "group_size": 64, "version": "gemv"}, 512 * 128 * 4 + 512 * 2 * 4 + 512 * 16 * 2),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, 512 * 1024 + 512 * 4 + 1),
        ({"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"a": {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128}}}}, 512 * 128 * 4 + 512 * 8 * 2 + 16),
        ({"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"a": {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128, "symmetric": False, "actorder": "group"}}}}, 512 * 128 * 4 + 512 * 8 * 2 + 16 + 64 * 8 * 4 + 1024 * 4),
        ({"quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": {"a": {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [128, 128]}}}}, 512 * 1024 + 4 * 8 * 2),
        ({"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized", "config_groups": {"a": {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}, "input_activations": {"dynamic": "local"}}}}, 512 * 512 + 512 * 64 + 8),
        ({"quant_method": "compressed-tensors", "format": "mxfp4-pack-quantized", "config_groups": {"a": {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "float", "strategy": "group", "group_size": 32}}}}, 512 * 512 + 512 * 32),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, 512 * 1024 + 8),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, 512 * 512 + 512 * 64 + 8),
        ({"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4", "group_size": 16}}, 512 * 512 + 512 * 64 + 8),
        ({"quant_method": "modelopt", "quant_algo": "MXFP8"}, 512 * 1024 + 512 * 32),
        ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp8_e4m3", "qscheme": "per_tensor"}, "input_tensors": {"is_dynamic": False}}}, 512 * 1024 + 8),
        ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp4", "qscheme": "per_group", "group_size": 32}}}, 512 * 512 + 512 * 32),
        ({"quant_method": "torchao", "quant_type": {"default": {"_type": "Int4WeightOnlyConfig", "_data": {"group_size": 128}}}}, 512 * 512 + 8 * 512 * 4),
        ({"quant_method": "torchao", "quant_type": "int8_weight_only"}, 512 * 1024 + 512 * 2),
        ({"quant_method": "eetq"}, 512 * 1024 + 512 * 2),
        ({"quant_method": "bitnet"}, 128 * 1024 + 2),
        ({"quant_method": "aqlm", "in_group_size": 8, "out_group_size": 1, "num_codebooks": 1, "nbits_per_codebook": 16}, 512 * 128 * 2 + 65536 * 8 * 2 + 512 * 2),
        ({"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}}}, 512 * 512 + 512 * 16 * 4),
        ({"quant_method": "auto-round", "bits": 4, "group_size": 128, "packing_format": "auto_round:auto_awq"}, 1024 * 64 * 4 + 8 * 64 * 4 + 8 * 512 * 2),
        ({"group_size": 64, "bits": 4}, 512 * 128 * 4 + 512 * 16 * 4),
        ({"group_size": 64, "bits": 6}, 512 * 192 * 4 + 512 * 16 * 4),
    ],
    ids=lambda x: (x.get("quant_method", "implied") + "-" + "-".join(str(v)[:20] for k, v in x.items() if k not in {"quant_method", "config_groups"})) if isinstance(x, dict) else None,
)  # fmt: skip
def test_one_layer(config, nbytes):
    """One layer takes the bytes that its method's layout has, and keeps its parameters."""
    done = apply_config([linear()], config)
    assert sum(t.nbytes for t in done.tensors) == nbytes
    assert sum(t.parameters for t in done.tensors) == 512 * 1024


@pytest.mark.parametrize("name", [n for n in QUANT_NAMES if n not in GGUF_NAMES])
def test_named_quantization_of_a_whole_model(name):
    """Every name works, keeps the parameters, and leaves norms and routers (but for MLX) in their own type."""
    before = small_model()
    after = requantize(before, name)
    assert after.parameters == before.parameters
    for role in (Role.NORM, *(() if name.startswith("mlx") else (Role.ROUTER,))):
        was = [t.format for t in before.tensors if t.role is role and t.component is Component.TEXT]
        now = [t.format for t in after.tensors if t.role is role and t.component is Component.TEXT]
        assert len(now) >= len(was)
        assert all(f.name in {"BF16", "F16", "F32"} for f in now)
    if name not in {"bf16", "fp16", "fp32"}:
        assert after.quantization
        assert after.weight_bytes < before.weight_bytes
        tower = [t for t in after.tensors if t.component is Component.VISION]
        assert [t.format for t in tower] == [BF16]


@pytest.mark.parametrize("name", ["fp8", "fp8-block", "int8", "w4a16", "gptq-4bit", "awq", "nvfp4", "mxfp4", "mlx-4bit"])
def test_requantizing_a_quantised_model_starts_from_its_logical_shapes(name):
    """A quantised model taken to bf16 is the unquantised one again."""
    before = small_model()
    again = requantize(requantize(before, name), "bf16")
    assert sorted((t.path, t.shape, t.count) for t in again.tensors) == sorted((t.path, t.shape, t.count) for t in before.tensors)
    assert again.weight_bytes == before.weight_bytes


def test_requantizing_what_has_lost_its_shapes_is_refused():
    """Flat blocks keep no shape (bitsandbytes): nothing is guessed from them."""
    flat = requantize(small_model(), "nf4")
    with pytest.raises(UsageError, match="packing"):
        requantize(flat, "fp8")


@pytest.mark.parametrize(("typed", "meant"), [("FP8", "fp8"), ("fp8_dynamic", "fp8"), ("q4_k_m", "Q4_K_M"), ("Q4-K-M", "Q4_K_M"), ("NF4", "bnb-4bit"), ("int4", "w4a16"), ("W8A8", "int8"), ("bfloat16", "bf16"), ("GPTQ", "gptq-4bit"), ("mxfp4", "mxfp4")])  # fmt: skip
def test_names_are_forgiving(typed, meant):
    """Case, dashes and people's other spellings don't matter."""
    assert canonical(typed) == meant


def test_unknown_names_get_a_suggestion():
    """A slip of the fingers is answered with the nearest name."""
    with pytest.raises(UsageError) as e:
        canonical("nvpf4")
    assert "nvfp4" in e.value.hint


def quantised_modules(done):
    return {t.path.removesuffix(".weight") for t in done.tensors if t.name.endswith(".weight") and t.format is F8_E4M3}


@pytest.mark.parametrize(
    ("listed", "left"),
    [
        (["model.layers.0.mlp"], {"model.layers.0.mlp.up_proj"}),
        (["layers.1"], {"model.layers.1.mlp.up_proj", "model.layers.1.self_attn.q_proj"}),
        (["up_proj"], {"model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj"}),
        (["model.layers.*.self_attn"], {"model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj"}),
        (["language_model.model.layers.0.mlp"], {"model.layers.0.mlp.up_proj"}),
        (["model.layers.1.mlp.up"], set()),
    ],
)
def test_modules_to_not_convert(listed, left):
    """Lists name modules whole, by their end, or by pattern up to a boundary of names, as transformers' should_convert_module does."""
    tensors = [linear(f"model.layers.#.{m}.weight", layer=i, role=r) for i in (0, 1) for m, r in (("mlp.up_proj", Role.MLP), ("self_attn.q_proj", Role.QUERY))]
    done = apply_config(tensors, {"quant_method": "fp8", "modules_to_not_convert": listed})
    assert {t.path.removesuffix(".weight") for t in tensors} - quantised_modules(done) == left


def test_compressed_tensors_targets_and_ignore():
    """A name beats a pattern, a pattern beats a class; ignored modules stay; an lm_head is quantised unless ignored."""
    weights = {"num_bits": 8, "type": "float", "strategy": "tensor"}
    four = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128}
    tensors = [
        linear(layer=0),
        linear(layer=1),
        linear("model.layers.#.self_attn.q_proj.weight", role=Role.QUERY),
        linear("lm_head.weight", 1000, 256, role=Role.LM_HEAD, layer=None),
    ]
    groups = {
        "a": {"targets": ["Linear"], "weights": weights, "format": "float-quantized"},
        "b": {"targets": ["re:.*up_proj"], "weights": four, "format": "pack-quantized"},
    }
    done = apply_config(
        tensors, {"quant_method": "compressed-tensors", "config_groups": groups, "format": "mixed-precision", "ignore": ["re:.*layers[.]0[.]mlp.*"]}
    )
    assert quantised_modules(done) == {"model.layers.0.self_attn.q_proj", "lm_head"}
    assert [t.path for t in by_suffix(done.tensors, "weight_packed")] == ["model.layers.1.mlp.up_proj.weight_packed"]
    assert [t.path for t in done.tensors if t.format is BF16 and t.shape == (512, 1024)] == ["model.layers.0.mlp.up_proj.weight"]


def test_single_experts_are_told_apart():
    """An exclusion of two experts of eight splits the entry."""
    experts = linear("model.layers.#.mlp.experts.*.up_proj.weight", 128, 256, role=Role.EXPERT, count=8)
    listed = ["model.layers.0.mlp.experts.3.up_proj", "model.layers.0.mlp.experts.5.up_proj"]
    done = apply_config([experts], {"quant_method": "fp8", "modules_to_not_convert": listed})
    weights = by_suffix(done.tensors, "up_proj.weight")
    assert {(t.format.name, t.count) for t in weights} == {("BF16", 2), ("F8_E4M3", 6)}


def test_modelopt_mixed_precision():
    """`quantized_layers` gives each module its own algorithm; what it does not list stays."""
    config = {
        "quant_method": "modelopt",
        "quant_algo": "MIXED_PRECISION",
        "kv_cache_scheme": {"num_bits": 8, "type": "float"},
        "quantized_layers": {
            "model.language_model.layers.0.mlp.experts": {"quant_algo": "W4A16_NVFP4", "group_size": 16},
            "model.language_model.layers.0.self_attn.q_proj": {"quant_algo": "FP8"},
        },
    }
    experts = linear("model.layers.#.mlp.experts.*.up_proj.weight", 128, 256, role=Role.EXPERT, count=8)
    done = apply_config([experts, linear(), linear("model.layers.#.self_attn.q_proj.weight", role=Role.QUERY)], config)
    assert {(t.path.split(".", 3)[-1], t.format.name) for t in done.tensors if t.packed} == {
        ("mlp.experts.*.up_proj.weight", "U8"),
        ("mlp.up_proj.weight", "BF16"),
        ("self_attn.q_proj.weight", "F8_E4M3"),
    }
    assert done.kv_dtype is F8_E4M3
    assert done.label == "nvfp4 w4a16 + fp8"


def test_modelopt_globs():
    """Names with stars match from the start of a module's path on, and everything below."""
    listed = ["model.layers.0*", "*.q_proj", "vision_tower"]
    tensors = [
        linear(layer=0),
        linear(layer=1),
        linear("model.layers.#.self_attn.q_proj.weight", role=Role.QUERY, layer=1),
        linear("vision_tower.blocks.0.mlp.fc1.weight", layer=None, component=Component.VISION),
    ]
    done = apply_config(tensors, {"quant_method": "modelopt", "quant_algo": "FP8", "exclude_modules": listed})
    assert quantised_modules(done) == {"model.layers.1.mlp.up_proj"}


def test_mxfp4_quantises_experts_only():
    """gpt-oss: blocks of 16 bytes and one scale for 32 values; attention and lm_head stay."""
    fused = Tensor(name="model.layers.#.mlp.experts.gate_up_proj", shape=(32, 2880, 5760), format=BF16, role=Role.EXPERT, layer=0)
    embedding = Tensor(name="model.embed_tokens.weight", shape=(1000, 2880), format=BF16, role=Role.EMBEDDING)
    done = apply_config([embedding, fused, linear()], {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]})
    shapes = {t.name.rsplit(".", 1)[-1]: t.shape for t in done.tensors if t.format.name == "U8"}
    assert shapes == {"gate_up_proj_blocks": (32, 5760, 90, 16), "gate_up_proj_scales": (32, 5760, 90)}
    assert sum(t.parameters for t in done.tensors) == sum(t.parameters for t in (embedding, fused, linear()))


@pytest.mark.parametrize("method", ["spqr", "vptq", "higgs", "quanto", "a-new-one", ""])
def test_unknown_methods_are_refused_by_name(method):
    """What nobody here knows is never guessed."""
    with pytest.raises(ModelFormatError, match=method or "no quant_method") as e:
        apply_config([linear()], {"quant_method": method})
    assert "headers" in e.value.hint


@pytest.mark.parametrize(
    "config",
    [
        {"quant_method": "gptq", "bits": 5},
        {"quant_method": "gptq", "bits": "four"},
        {"quant_method": "gptq", "bits": 4, "group_size": -7},
        {"quant_method": "awq", "bits": 3},
        {"quant_method": "fp8", "weight_block_size": [0, 128]},
        {"quant_method": "fp8", "weight_block_size": "128"},
        {"quant_method": "fp8", "modules_to_not_convert": 7},
        {"quant_method": "fp8", "modules_to_not_convert": [7]},
        {"quant_method": "fp8", "modules_to_not_convert": ["(a+)+$"]},
        {"quant_method": "fp8", "modules_to_not_convert": ["(a"]},
        {"quant_method": "compressed-tensors"},
        {"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": {"num_bits": 4}}}, "format": "marlin-24"},
        {"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": {"num_bits": 4, "strategy": "moon"}}}},
        {"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": {"num_bits": 8, "strategy": "block", "block_structure": [1]}}}},
        {"quant_method": "compressed-tensors", "config_groups": {"a": 3}, "ignore": ["re:(((x*)*)*)*y"]},
        {"quant_method": "bitsandbytes"},
        {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf5"},
        {"quant_method": "modelopt", "quant_algo": "NVFP99"},
        {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": []},
        {"quant_method": "torchao", "quant_type": {"default": {"_type": "MoonConfig"}}},
        {"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "int4", "qscheme": "per_group"}}},
        {"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 7}}},
        {"group_size": 64, "bits": 7},
    ],
    ids=lambda c: json.dumps(c)[:60],
)
def test_nonsense_is_refused(config):
    """A broken config gets one clear error, soon."""
    start = time.perf_counter()
    with pytest.raises(ModelFormatError) as e:
        apply_config([linear("model.layers.#.mlp.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.weight")], config)
    assert e.value.hint
    assert time.perf_counter() - start < 1


JSON = st.recursive(st.none() | st.booleans() | st.integers(-5, 10**9) | st.floats(allow_nan=False) | st.text(max_size=12), lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=12), x, max_size=3), max_leaves=8)  # fmt: skip
KEYS = ["bits", "group_size", "modules_to_not_convert", "ignore", "config_groups", "format", "quant_algo", "quantized_layers", "weight_block_size", "quant_type", "global_quant_config", "dynamic", "extra_config", "load_in_4bit", "kv_cache_scheme", "activation_scheme", "quant_config", "exclude", "layer_quant_config"]  # fmt: skip


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.sampled_from(sorted(METHODS)), st.dictionaries(st.sampled_from(KEYS), JSON, max_size=5))
def test_any_config_is_applied_or_refused(method, fields):
    """No config, however odd, ends in anything but a result or a ModelFormatError."""
    tensors = [
        linear(),
        linear("lm_head.weight", 64, 128, role=Role.LM_HEAD, layer=None),
        linear("model.layers.#.mlp.experts.*.up_proj.weight", count=4, role=Role.EXPERT),
    ]
    try:
        done = apply_config(tensors, {**fields, "quant_method": method})
    except ModelFormatError:
        return
    assert sum(t.parameters for t in done.tensors) == sum(t.parameters for t in tensors)


def test_a_rule_that_meets_nothing_is_told():
    """A config whose lists miss every module is counted unquantised, and the plan can say so."""
    done = apply_config([linear()], {"quant_method": "fp8", "modules_to_not_convert": ["model"]})
    assert done.notes
    assert done.tensors == (linear(),)


def test_long_lists_take_no_time():
    """A list of 20,000 names over 1,000 layers is matched in well under a second."""
    tensors = [linear(layer=i) for i in range(1000)]
    listed = [f"model.layers.{i}.mlp.gate" for i in range(10_000)] + [f"model.layers.{i}.self_attn*" for i in range(10_000)]
    start = time.perf_counter()
    apply_config(tensors, {"quant_method": "modelopt", "quant_algo": "FP8", "exclude_modules": listed})
    assert time.perf_counter() - start < 1


def test_the_reader_hands_over_what_stands_beside():
    """A config whose FP4 experts are told outside of the quantization object is read as FP4 all the same."""
    assert quantization_config({"quantization_config": {"quant_method": "fp8"}, "expert_dtype": "fp4"})["expert_dtype"] == "fp4"
    assert quantization_config({"quantization_config": {"quant_method": "fp8"}}) == {"quant_method": "fp8"}


def test_metas_fp8_keeps_all_attention_in_16_bits():
    """57.75 GiB of Llama 3.1 405B on each of eight GPUs (vllm-project/vllm#6746): a list cut short after its first layer means them all."""
    from vram.api import load_model

    whole = load_model("meta-llama/Llama-3.1-405B-Instruct-FP8", offline=True).weight_bytes / 2**30
    # The measured revision had 16 KV heads, the config has 8: 7.9 GiB less.
    assert whole == pytest.approx(8 * 57.75 - 7.9, rel=0.005)
