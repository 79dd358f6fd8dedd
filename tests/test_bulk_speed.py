"""Speeds of many plans equal the scalar clock's, to 1e-12."""

import math

import numpy as np
import pytest
from bulk_oracle import _model, sampled

from vram.api import catalogue_facts
from vram.engines.base import Demand, Settings
from vram.engines.registry import engine as rules_of
from vram.hardware.spelling import parse_gpu
from vram.memory.placement import Placement
from vram.memory.workload import Workload
from vram.planner.bulk import Place, candidates
from vram.planner.make import _formats
from vram.speed.clock import clock
from vram.speed.estimate import estimate

FIGURES = ("decode_tokens_per_second", "tpot_seconds", "prefill_tokens_per_second", "ttft_seconds")


def asked(table, row):
    """The scalar question that a row answers."""
    engine, q = table.engines[table.engine[row]], table.question
    model = _model(table.models[table.model[row]].id, table.quants[table.quant[row]])
    name, formats = _formats(model, rules_of(engine).kv_dtype if q.kv_dtype is None else q.kv_dtype)
    return Demand(
        model=model,
        gpu=table.places[table.place[row]].gpu,
        placement=Placement(tp=int(table.tp[row]), pp=int(table.pp[row])),
        workload=Workload(context_tokens=q.context_tokens, concurrency=q.concurrency, kv_dtype=name, formats=formats),
        settings=Settings(),
    ), engine


@pytest.mark.timeout(900)
@pytest.mark.parametrize("engine", ["vllm", "sglang", "llama.cpp", "ollama", "tensorrt-llm", "transformers"])
def test_rows_at_random_equal_the_scalar_clock(engine):
    """All four figures, and the doubt around them, over all models, quantizations, cards, splits and workloads."""
    for seed in range(3):
        table, rows = sampled(seed, 60, engines=(engine,))
        rows = np.array(rows)[np.lexsort((table.quant[rows], table.model[rows]))]
        speeds = table.speed(rows)
        for at, row in enumerate(rows.tolist()):
            demand, name = asked(table, row)
            told = estimate(demand, name)
            for figure in FIGURES:
                theirs = None if told is None else getattr(told, figure)
                mine = getattr(speeds, figure)[at]
                what = (demand.model.name, table.quants[table.quant[row]], name, table.places[table.place[row]].name, table.question, figure)
                if theirs is None:
                    assert math.isnan(mine), what
                else:
                    assert mine == pytest.approx(theirs.value, rel=1e-12), what
            if told is not None:
                doubt = clock(demand, name).entry.doubt
                assert (speeds.decode_doubt[at], speeds.tpot_doubt[at]) == (doubt.decode, doubt.tpot)
                assert (speeds.prefill_doubt[at], speeds.ttft_doubt[at], speeds.ttft_less_doubt[at]) == (doubt.prefill, doubt.ttft, doubt.ttft_less)


def test_speeds_of_no_rows_and_by_mask():
    """A mask, indexes and nothing at all."""
    table = candidates(catalogue_facts(), [Place(gpu=parse_gpu("H100 SXM 80GB").gpu, count=1)], context_tokens=8192, models=["Qwen/Qwen3-8B"])
    whole = table.speed(np.arange(len(table)))
    some = table.speed(table.verdict == 2)
    assert some.tpot_seconds.tolist() == whole.tpot_seconds[table.verdict == 2].tolist()
    assert len(table.speed(np.array([], dtype=int)).tpot_seconds) == 0
