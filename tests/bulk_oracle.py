"""Rows of a table of many plans beside the scalar planner's plans of the same: what differs, in words."""

import math
import random
from functools import lru_cache

import numpy as np

from vram.api import catalogue_facts, catalogued
from vram.hardware.catalogue import catalogue
from vram.model.quantization.named import requantize
from vram.planner.bulk import VERDICTS, Place, candidates
from vram.planner.make import make_plan

ENGINES = ("vllm", "sglang", "llama.cpp", "ollama", "tensorrt-llm", "transformers", "generic")
PARTS = ("weights", "kv_cache", "activations", "cuda_graphs", "runtime", "communication")


@lru_cache(maxsize=2)
def _model(name, quant):
    return requantize(_model(name, ""), quant) if quant else catalogued(name)


def differences(table, rows):
    """Every figure of these rows that is not the scalar plan's; rows of a model lie together, so that it is loaded once."""
    rows = np.asarray(rows)
    rows = rows[np.lexsort((table.quant[rows], table.model[rows]))]
    found = []
    for row, parts in zip(rows.tolist(), table.parts(rows), strict=True):
        name, quant, engine = table.models[table.model[row]].id, table.quants[table.quant[row]], table.engines[table.engine[row]]
        place, q = table.places[table.place[row]], table.question
        plan = make_plan(
            _model(name, quant),
            place.fleet,
            engine=engine,
            context_tokens=q.context_tokens,
            concurrency=q.concurrency,
            kv_dtype=q.kv_dtype,
            headroom=q.headroom,
        )
        tp, pp = plan.placement.tp, plan.placement.pp
        mine = {
            "placement": (table.tp[row], table.pp[row]),
            "verdict": VERDICTS[table.verdict[row]],
            "spare": table.spare_bytes[row],
            "pool": table.pool_bytes[row],
            "tokens": None if table.capacity_tokens[row] < 0 else table.capacity_tokens[row],
            "sequences": None if math.isnan(table.max_concurrency[row]) else table.max_concurrency[row],
            "weights": table.weight_bytes[row],
        }
        theirs = {
            "placement": (tp, pp),
            "verdict": plan.verdict,
            "spare": plan.spare_bytes,
            "pool": plan.kv_pool.bytes_per_gpu,
            "tokens": plan.kv_pool.capacity_tokens,
            "sequences": plan.kv_pool.max_concurrency,
            "weights": sum(gpu.parts.weights.bytes for gpu in plan.gpus),
        }
        for stage in range(pp):
            for part in PARTS:
                size = getattr(plan.gpus[stage * tp].parts, part)
                mine[f"{part} of stage {stage}"] = tuple(parts[part][stage].tolist())
                theirs[f"{part} of stage {stage}"] = (size.bytes, size.low, size.high)
        wrong = [f"{what}: {mine[what]}, scalar {theirs[what]}" for what in mine if mine[what] != theirs[what]]
        if wrong:
            found.append(f"{name} {quant or 'as published'} on {engine}, {place.name} ({place.used_bytes} used), {q}: {'; '.join(wrong)}")
    return found


def sampled(seed, count, *, engines=ENGINES, facts=None, context=None, concurrency=None, **asked):
    """Rows at random of a table for cards and a workload at random, and the table."""
    chance = random.Random(seed)  # noqa: S311  (rows, no secrets)
    places = [
        Place(gpu=gpu, count=chance.choice((1, 1, 2, 2, 3, 4, 4, 6, 8, 8, 16)), used_bytes=chance.choice((0, 0, 0, 3 * 2**30)))
        for gpu in chance.sample(catalogue().all_gpus(), 24)
    ]
    table = candidates(
        facts or catalogue_facts(),
        places,
        context_tokens=context or chance.choice((1, 5, 64, 513, 4096, 8192, 32768, 131072, 1_000_000)),
        concurrency=concurrency or chance.choice((1, 1, 2, 8, 33, 256)),
        engines=engines,
        **({"kv_dtype": chance.choice((None, None, None, "fp8", "bf16", "q8_0")), "headroom": chance.choice((0.2, 0.2, 0.0, 0.5))} | asked),
    )
    return table, chance.sample(range(len(table)), min(count, len(table)))
