"""Questions to a real vLLM about drafters and adapters, and how its answers are compared with the plans.

A row of truth/vllm/beside.jsonl is one question with vLLM's answer (truth/oracle/vllm_beside.py); tests/oracle asks others afresh.
"""

import json
import random
import re
import sys
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent / "oracle"))
from vllm_shapes import shapes

from vram.engines.base import Settings
from vram.engines.draft import Draft, is_head
from vram.engines.vllm.draft import drafted
from vram.engines.vllm.engine import _laid_out
from vram.engines.vllm.lora import Slots, lora_bytes
from vram.engines.vllm.release import release_of
from vram.hardware.gpu import Gpu
from vram.memory.placement import Placement
from vram.model.cache import CacheFormats, StateCache
from vram.model.format import BF16
from vram.model.model import Model
from vram.readers.config_json import model_from_config

Row = dict[str, Any]
CPU = Gpu(name="cpu", vendor="", architecture="", capacity_bytes=2**42, capacity_source="stated", marketing_bytes=2**42)
LLAMA: Row = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 6,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "vocab_size": 32000,
    "max_position_embeddings": 8192,
    "dtype": "bfloat16",
    "tie_word_embeddings": False,
    "rms_norm_eps": 1e-5,
}
SMALL: Row = {**LLAMA, "hidden_size": 512, "num_hidden_layers": 3, "num_attention_heads": 8, "num_key_value_heads": 4, "intermediate_size": 1408}
HEADS = {
    "eagle": {**LLAMA, "architectures": ["EagleLlamaForCausalLM"], "num_hidden_layers": 1},
    "eagle3": {**LLAMA, "architectures": ["LlamaForCausalLMEagle3"], "num_hidden_layers": 1, "draft_vocab_size": 8000},
}
ENCODERS = frozenset({"bert", "modernbert", "roberta", "xlm-roberta", "camembert", "data2vec-text", "bert-generation"})
DRAFTING = {
    **dict.fromkeys(("qwen3_5_text", "qwen3_5_moe_text"), "mtp_num_hidden_layers"),
    **dict.fromkeys(
        ("deepseek_v3", "glm4_moe", "glm4_moe_lite", "qwen3_next", "nemotron_h", "longcat_flash", "ernie4_5_moe", "exaone_moe", "hy_v3", "bailing_hybrid"),
        "num_nextn_predict_layers",
    ),
}


def own_architectures(python: Path) -> set[str]:
    """Architectures that vLLM has code of its own for; others run, if at all, as transformers' modules."""
    (registry,) = python.parents[1].glob("lib/python*/site-packages/vllm/model_executor/models/registry.py")
    return set(re.findall(r'^    "(\w+)": \(', registry.read_text(), re.MULTILINE))


def questions(seed: int, native: set[str]) -> list[Row]:
    """Adapters for every architecture of `native`, drafting layers for those that have them, draft models for each, EAGLE heads.

    What vLLM cannot answer on a CPU is left out: adapters of experts (no kernel), encoders.
    """
    draw = random.Random(seed)  # noqa: S311  (settings to try, no secrets)
    found: list[Row] = []

    def ask(name: str, config: Row, tp: int = 1, draft: Row | None = None, spec: Row | None = None, lora: Row | None = None, **settings: Any) -> None:
        asked: Row = {"max_model_len": draw.randrange(1500, 4000), "max_num_batched_tokens": draw.randrange(4000, 9000), **settings}
        if spec is not None:
            asked["speculative_config"] = spec
        pools = [draw.randrange(2**28, 2**30), draw.randrange(2**32, 2**34)] if lora is None else []
        found.append({"id": name, "config": config, "draft": draft, "tp": tp, "settings": asked, "pools": pools, "lora": lora})

    for tp in (1, 2, 4):
        slots = {"enable_lora": True, "max_loras": draw.randrange(1, 9), "max_lora_rank": draw.choice([8, 16, 32, 64, 128])}
        ask(f"lora|llama|{tp}", LLAMA, tp, lora=slots)
        ask(f"lora|llama tied|{tp}", {**LLAMA, "tie_word_embeddings": True}, tp, lora=slots)
        tokens = draw.randrange(1, 8)
        ask(f"draft|llama|{tp}", LLAMA, tp, SMALL, {"method": "draft_model", "num_speculative_tokens": tokens})
        for method, head in HEADS.items():
            ask(f"{method}|llama|{tp}", LLAMA, tp, head, {"method": method, "num_speculative_tokens": tokens})
    for config in shapes(seed):
        kind = config["model_type"]
        if config["architectures"][0] not in native or kind in ENCODERS:
            continue
        tp, slots = draw.choice([1, 2]), {"enable_lora": True, "max_loras": draw.randrange(1, 5), "max_lora_rank": draw.choice([8, 16, 32])}
        if not any("expert" in key for key in config):
            ask(f"lora|{kind}|{tp}", config, tp, lora=slots)
        tokens = draw.randrange(1, 6)
        ask(f"draft|{kind}|{tokens}", config, 1, {**SMALL, "vocab_size": config["vocab_size"]}, {"method": "draft_model", "num_speculative_tokens": tokens})
        if kind in DRAFTING:
            spec = {"method": "mtp", "num_speculative_tokens": tokens}
            ask(f"mtp|{kind}|{tokens}", {**config, DRAFTING[kind]: 1}, 1, None, spec, enable_prefix_caching=draw.random() < 0.7)
    return found


@lru_cache(maxsize=512)
def _model(text: str) -> Model:
    return model_from_config(json.loads(text), "asked")


def model_of(config: Row) -> Model:
    """The model of a config."""
    return _model(json.dumps(config, sort_keys=True))


def differences(row: Row) -> list[str]:
    """What of a row is planned otherwise than vLLM answered: adapters' bytes; the drafter's to 0.1 % and 8 KiB, and the layout of the pool."""
    model, place = model_of(row["config"]), Placement(tp=row["tp"])
    if row["lora"]:
        mine = lora_bytes(model, place, 0, Slots(count=row["lora"]["max_loras"], rank=row["lora"]["max_lora_rank"]))
        return [] if mine == row["lora_bytes"] else [f"adapters {mine} for {row['lora_bytes']}: {row['lora_kinds']}"]
    draft = Draft(model=model_of(row["draft"]) if row["draft"] else None, tokens=row["settings"]["speculative_config"]["num_speculative_tokens"])
    found, wrong = drafted(model, draft, place), []
    own = row["draft_weights"]
    if draft.model is None or is_head(draft.model):
        own -= row["draft_shared"]
        if draft.model is not None:  # a head of another vocabulary is its own
            rows = row["draft"].get("draft_vocab_size", 0)
            own += rows * row["draft"]["hidden_size"] * 2 // row["tp"]
    if abs(found.weight_bytes - own) > 8192 + own // 1000:
        wrong.append(f"weights {found.weight_bytes} for {own}")
    release = release_of("0.32.0+cpu.amx" if row["host"]["amx_tile"] else "0.32.0+cpu" if row["host"]["avx512_bf16"] else "0.32.0+cpu.avx512")
    if row["effective"]["enable_prefix_caching"] is False:
        release = replace(release, hybrid_prefixes=False)
    formats = CacheFormats(key=BF16, value=BF16)
    settings = Settings(
        version="0.32.0+cpu", draft=draft, max_batched_tokens=row["effective"]["max_num_batched_tokens"], block_size=row["settings"].get("block_size")
    )
    length = row["settings"]["max_model_len"]
    layout = _laid_out(model, CPU, place, 0, settings, release, formats, row["effective"]["max_num_batched_tokens"], length)
    for answer in row["answers"]:
        if layout is None:
            # States alone with an attention beside them: said to be unknown.
            if not all(isinstance(c, StateCache) for layer in model.layers for c in layer.caches):
                wrong.append("no layout")
        elif answer["error"] is not None:
            if layout.serves(answer["available_bytes"]):
                wrong.append(f"serves: {answer['error'][:80]}")
        else:
            blocks = layout.blocks(answer["available_bytes"])
            mine = [layout.bytes_per_block, blocks, layout.block_size, layout.concurrency(blocks), layout.tokens(blocks), len(layout.groups)]
            names = ("bytes_per_block", "num_blocks", "block_size", "max_concurrency", "printed_tokens")
            real = [*(answer[name] for name in names), len(answer["groups"])]
            if mine != real:
                wrong.append(f"layout {mine} for {real}")
    return wrong


if __name__ == "__main__":
    # python tests/vllm_beside.py PYTHON SEED > QUESTIONS.json, for truth/oracle/vllm_beside.py
    json.dump(questions(int(sys.argv[2]), own_architectures(Path(sys.argv[1]))), sys.stdout)
