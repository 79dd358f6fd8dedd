"""The rows as columns of numbers, and the formula of speed/clock.py and speed/estimate.py on whole columns, for fit.py.

A test holds it against the clock itself.
"""

import json
from pathlib import Path

import numpy as np

from vram.accuracy.speed_case import Case, case_of
from vram.accuracy.speed_check import engine_of, find
from vram.accuracy.speed_row import Metric, parse_speed_row
from vram.cli.accuracy import loader
from vram.errors import VramError
from vram.speed.calibration import base_name, card_class, weight_class
from vram.speed.clock import HOP_MESSAGES, SLOW_LINK, engine_peak, launched_layers, sampling_seconds, vector_flops
from vram.speed.estimate import chunk_tokens
from vram.speed.work import work_of

HERE = Path(__file__).parent
FILES = ("batch_one.jsonl", "community.jsonl", "found.jsonl", "found_again.jsonl", "serving_tpot.jsonl", "serving_ttft.jsonl")
NO_PEAK = 1e30


def features(case: Case) -> dict:
    """A case as numbers: what speed/clock.py multiplies."""
    row, demand, spread = case.row, case.demand, case.spread
    works = work_of(demand.model, spread, demand.workload.formats)
    w, gpu, engine = works[0], demand.gpu, engine_of(row.engine)

    def total(name):
        return float(sum(getattr(x, name) for x in works))

    kind, seconds = {
        Metric.TPOT: ("tpot", row.value / 1e3),
        Metric.TTFT: ("ttft", row.value / 1e3),
        Metric.DECODE: ("decode", 1 / row.value),
        Metric.DECODE_TOTAL: ("decode", case.sequences / row.value),
        Metric.PREFILL: ("prefill", case.prompt_tokens / row.value),
    }[row.metric]
    if kind == "tpot" and case.sequences == 1:
        kind = "decode"
    prompt, held, depth, n = case.prompt_tokens, case.mean_tokens, case.held_tokens, case.sequences
    chunk = chunk_tokens(engine, demand.settings)
    chunks = max(1, -(-prompt // chunk))
    pairs = prompt * (prompt + 1) // 2 + prompt * depth
    mean = pairs / prompt if prompt else 0

    def windows(x, tokens, length):
        return sum(o * tokens * min(length, q[1]) for o, q in zip(x.decode_windows, x.reads.windows, strict=True))

    return {
        "id": row.id,
        "engine": {"ollama": "llama.cpp"}.get(engine, engine),
        "model": demand.model.name.split("/")[-1],
        "family": demand.model.model_type,
        "gpu": base_name(gpu),
        "card": str(card_class(gpu)),
        "weights": weight_class(w.stored_bits),
        "experts": "moe" if w.experts else "dense",
        "kind": kind,
        "seconds": seconds,
        "years": case.years,
        "flag": case.flag,
        "sequences": float(n),
        "tokens": float(n * spread.dp),
        "dp": float(spread.dp),
        "dense_bytes": total("dense_bytes"),
        "dense_ops": total("dense_ops"),
        "head_bytes": total("head_bytes"),
        "head_ops": total("head_ops"),
        "expert_bytes": total("expert_bytes"),
        "expert_ops": total("expert_ops"),
        "all_expert_ops": total("all_expert_ops"),
        "vector": vector_flops(engine, gpu, demand.model.quantization, row.backend) or NO_PEAK,
        "unvisited": 1 - min(w.experts_per_token, w.experts) / w.experts if w.experts else 1.0,
        "cache_bytes": float(sum(x.reads.at(held) for x in works) * n),
        "cache_ops": float(sum(x.decode_pair * held * n + windows(x, n, held) for x in works)),
        "prompt": float(prompt),
        "chunks": float(chunks),
        "prompt_ops": float(sum(x.prefill_pair * pairs + windows(x, prompt, mean) for x in works)),
        "layers": launched_layers(engine, total("layers"), total("recurrent_layers")),
        "expert_layers": total("expert_layers"),
        "sampled": sampling_seconds(engine, total("head_ops"), w.message_bytes) if row.samples else 0.0,
        "exchanges": 2 * total("layers") if spread.expert_ranks > 1 else 0.0,
        "hops": float(spread.pp - 1),
        "message": w.message_bytes * 2 * (spread.expert_ranks - 1) / spread.expert_ranks,
        "bandwidth": gpu.bandwidth_bytes_per_second,
        "link": (gpu.link.bytes_per_second if gpu.link else None) or SLOW_LINK,
        "dense_peak": engine_peak(engine, gpu, w.dense_type, w.stored_bits) or NO_PEAK,
        "expert_peak": engine_peak(engine, gpu, w.expert_type, w.stored_bits) or NO_PEAK,
        "half_peak": engine_peak(engine, gpu, "bf16", 16) or NO_PEAK,
        "output": float(max(case.output_tokens, 1)),
    }


def columns(rows):
    return {k: np.array([r[k] for r in rows]) for k in rows[0]}


def roof(reading, computing):
    return (reading**4 + computing**4) ** 0.25


def predict(a, p, yearly=0.0):
    """Seconds of every row: the formula of speed/clock.py and speed/estimate.py on columns, or of many sets of constants at once."""
    from_memory = {
        k: roof(a[f"{k}_bytes"] / (p[s] * a["bandwidth"]), a[ops] / (p["vector_share"] * a["vector"]))
        for k, s, ops in (("dense", "memory_share", "dense_ops"), ("head", "memory_share", "head_ops"), ("expert", "expert_share", "all_expert_ops"))
    }
    cache = a["cache_bytes"] / (p["cache_share"] * a["bandwidth"])
    dense = a["dense_ops"] / (p["compute_share"] * a["dense_peak"])
    head = a["head_ops"] / (p["compute_share"] * a["half_peak"])
    expert = a["expert_ops"] / (p["compute_share"] * a["expert_peak"])
    message = a["exchanges"] * a["message"] / (p["link_share"] * a["link"])
    fixed = (p["step_seconds"] + p["layer_seconds"] * a["layers"] + p["expert_layer_seconds"] * a["expert_layers"]) * np.exp(yearly * a["years"])
    fixed = fixed + (a["exchanges"] + HOP_MESSAGES * a["hops"]) * p["message_seconds"]

    def pass_(tokens, rows):
        read = from_memory["expert"] * (1 - a["unvisited"] ** (tokens * a["dp"]))
        return fixed + roof(from_memory["dense"], dense * tokens) + roof(from_memory["head"], head * rows) + roof(read, expert * tokens) + message * tokens

    n = a["sequences"]
    attention = roof(cache, a["cache_ops"] / (p["attention_share"] * a["half_peak"]))
    step = pass_(n, n) + attention + (p["sequence_seconds"] + a["sampled"]) * n
    prefill = a["chunks"] * pass_(a["prompt"] / a["chunks"], 1) + a["prompt_ops"] / (p["attention_share"] * a["half_peak"])
    tpot = step + p["interleave"] * (n - 1) / a["output"] * prefill
    ttft = p["first_seconds"] + prefill * (1 + p["queue"] * (n - 1))
    return np.select([a["kind"] == "tpot", a["kind"] == "ttft", a["kind"] == "prefill"], [tpot, ttft, prefill], step)


def read_rows(names=FILES):
    """Features of every row that can be read, and how many could not."""
    out, seen = [], 0
    for name in names:
        load = loader(HERE, online=False)
        for line in (HERE / name).read_text(encoding="utf-8").splitlines():
            told = json.loads(line)
            row = parse_speed_row(told)
            seen += 1
            try:
                model, gpu = find(row, load)
                made = features(case_of(row, model, gpu))
            except VramError:
                continue
            made["old"] = row.engine == "vllm" and row.engine_version.startswith("0.2.")  # cited.json has what such were like
            made["copy"], made["source"] = "duplicate_of" in told, told["source"]
            out.append(made)
    return out, seen


def usable(rows):
    """Evidence: not flagged, told once, and of a card whose arithmetic is known where that is what was measured."""
    return [r for r in rows if not r["flag"] and not r["copy"] and not r["old"] and not (r["kind"] in {"prefill", "ttft"} and r["dense_peak"] >= NO_PEAK)]
