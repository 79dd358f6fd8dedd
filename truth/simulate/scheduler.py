"""Asks vLLM's own scheduler, without an engine: random pools and requests, steps that take as long as a formula says. Prints a row of JSON a case.

usage: $(sh truth/oracle/build_vllm.sh) truth/simulate/scheduler.py [CASES] > truth/simulate/scheduler.jsonl       (vLLM 0.32)

Covers what a server on the CPU cannot show: asynchronous scheduling (two batches in flight, as `EngineCore.step_with_batch_queue` keeps
them), windows, chunked attention, several groups of layers, ends that the engine learns of only from a stop token.
"""

import copy
import json
import os
import random
import sys
import tempfile
from collections import deque
from math import lcm
from pathlib import Path

os.environ.update({"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_CPU_KVCACHE_SPACE": "1"})

import torch
from vllm.engine.arg_utils import EngineArgs
from vllm.sampling_params import SamplingParams
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.kv_cache_interface import ChunkedLocalAttentionSpec, FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec, SlidingWindowSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager

STOP, OTHER = 7, 3
CLOCK = {"step_seconds": 1.0, "prefill_token_seconds": 0.05, "prefill_pair_seconds": 1e-4, "decode_sequence_seconds": 0.1, "kv_token_seconds": 0.003}
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 64, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 4096, "torch_dtype": "bfloat16",
}  # fmt: skip


def groups_of(rng):
    """Groups of layers as (kind, block size, window or chunk)."""
    one = [("full", rng.choice((1, 4, 16)), 0)]
    window = [("window", 4, rng.choice((5, 9, 16, 33)))]
    chunked = [("chunked", 4, rng.choice((8, 16)))]
    return rng.choice((one, one, one, one + window, window, [*window, *window, ("full", 8, 0)], [*chunked, ("full", 4, 0)]))


def spec_of(kind, block, reach):
    more = {"block_size": block, "num_kv_heads": 1, "head_size": 16, "dtype": torch.bfloat16}
    if kind == "window":
        return SlidingWindowSpec(**more, sliding_window=reach)
    return ChunkedLocalAttentionSpec(**more, attention_chunk_size=reach) if kind == "chunked" else FullAttentionSpec(**more)


def case_of(rng):
    longest, tokens = rng.randint(12, 160), rng.randint(4, 80)
    groups, chunked = groups_of(rng), rng.random() < 0.8
    if not chunked:
        tokens = max(tokens, longest)
    asynchronous = rng.random() < 0.5
    flight = tokens * (2 if asynchronous else 1)
    least = sum(
        min(-(-longest // b), -(-min(longest, (r - 1 if k == "window" else r) + flight) // b) + (k == "window")) if r else -(-longest // b)
        for k, b, r in groups
    )
    now, requests = 0.0, []
    for _ in range(rng.randint(3, 30)):
        now += rng.choice((0.0, 0.0, 0.7 * 2**0.5, 3.1 * 3**0.5))
        prompt = rng.randint(1, longest - 1)
        output = rng.randint(1, longest - prompt)
        requests.append([now, prompt, output, rng.choice((output, longest - prompt))])
    return {
        "groups": groups, "blocks": least + rng.randint(0, 2 * least), "max_model_len": longest, "max_num_seqs": rng.randint(1, min(tokens, 12)),
        "max_batched_tokens": tokens, "chunked_prefill": chunked, "asynchronous": asynchronous, "requests": requests,
    }  # fmt: skip


def scheduler_of(case, base):
    config = copy.deepcopy(base)
    s = config.scheduler_config
    s.max_num_seqs, s.max_num_batched_tokens, s.max_num_scheduled_tokens = case["max_num_seqs"], case["max_batched_tokens"], None
    s.enable_chunked_prefill, s.async_scheduling = case["chunked_prefill"], case["asynchronous"]
    config.model_config.max_model_len = s.max_model_len = case["max_model_len"]
    config.cache_config.enable_prefix_caching = False
    config.cache_config.num_gpu_blocks = case["blocks"] + 1  # one is the null block
    blocks = [g[1] for g in case["groups"]]
    groups = [KVCacheGroupSpec([f"layer{i}"], spec_of(*g)) for i, g in enumerate(case["groups"])]
    kv = KVCacheConfig(num_blocks=case["blocks"] + 1, kv_cache_tensors=[], kv_cache_groups=groups)
    kind = AsyncScheduler if case["asynchronous"] else Scheduler
    return kind(config, kv, StructuredOutputManager(config), block_size=lcm(*blocks), hash_block_size=min(blocks))


def replay(case, base):
    """[first token, last token, preemptions] of each request, and the most blocks in use."""
    scheduler = scheduler_of(case, base)
    pool = scheduler.kv_cache_manager.block_pool
    coming = deque(enumerate(case["requests"]))
    results = [[-1.0, -1.0, 0] for _ in case["requests"]]
    sampled, prefilled, flight, made = [0] * len(results), {}, deque(), {}
    now = last_end = 0.0
    peak, depth = 0, 2 if case["asynchronous"] else 1
    while True:
        while coming and coming[0][1][0] <= now:
            i, (_, prompt, _, limit) = coming.popleft()
            made[f"{i}"] = Request(f"{i}", [1] * prompt, SamplingParams(max_tokens=limit, stop_token_ids=[STOP], ignore_eos=True), None)
            scheduler.add_request(made[f"{i}"])
        batch = None
        if scheduler.has_requests():
            before = {r.request_id: r.num_preemptions for r in scheduler.running}
            batch = scheduler.schedule()
            for name, was in before.items():
                if made[name].num_preemptions > was:
                    prefilled.pop(name, None)
            peak = max(peak, pool.num_gpu_blocks - 1 - pool.get_num_free_blocks())
        elif not flight:
            if not coming:
                return results, peak
            now = coming[0][1][0]
            continue
        if batch is not None and batch.total_num_scheduled_tokens:
            tokens = pairs = decodes = kv = 0
            names, answers = [], []
            for name, new in batch.num_scheduled_tokens.items():
                done = made[name].num_computed_tokens - new
                if prefilled.get(name):
                    decodes, kv = decodes + 1, kv + done + 1
                else:
                    tokens, pairs = tokens + new, pairs + new * done + new * (new + 1) // 2
                names.append(name)
                if made[name].is_prefill_chunk:
                    answers.append([])
                    continue
                prefilled[name] = True
                k = int(name)
                sampled[k] += 1
                answers.append([STOP if sampled[k] == case["requests"][k][2] else OTHER])
            c = CLOCK
            seconds = (
                c["step_seconds"]
                + tokens * c["prefill_token_seconds"]
                + pairs * c["prefill_pair_seconds"]
                + decodes * c["decode_sequence_seconds"]
                + kv * c["kv_token_seconds"]
            )
            last_end = max(last_end, now) + seconds
            flight.append((last_end, batch, ModelRunnerOutput(req_ids=names, req_id_to_index={n: i for i, n in enumerate(names)}, sampled_token_ids=answers)))
            if len(flight) < depth:
                continue
        elif batch is not None and not flight:
            scheduler.update_from_output(batch, ModelRunnerOutput(req_ids=[], req_id_to_index={}))
            continue
        if flight:
            end, batch, output = flight.popleft()
            now = max(now, end)
            for outputs in scheduler.update_from_output(batch, output).values():
                for one in outputs.outputs:
                    k = int(one.request_id)
                    if one.new_token_ids:
                        results[k][0] = end if results[k][0] < 0 else results[k][0]
                    if one.finish_reason is not None:
                        results[k][1] = end
                        results[k][2] = made[one.request_id].num_preemptions


def main():
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 150
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(CONFIG))
        base = EngineArgs(model=folder, skip_tokenizer_init=True, max_model_len=4096, enforce_eager=True).create_engine_config()
        for seed in range(number):
            case = case_of(random.Random(seed))  # noqa: S311  (cases, no keys)
            results, peak = replay(case, base)
            print(json.dumps({"seed": seed, **case, "clock": CLOCK, "results": results, "peak_blocks": peak}), flush=True)


if __name__ == "__main__":
    main()
