"""Every model in every quantization on every engine and place: planned together, a few hundred array operations for a hundred thousand plans."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np

from vram.engines.registry import engine as rules_of
from vram.engines.supports import ENGINES, OFFERED, rule_for
from vram.errors import UsageError
from vram.hardware.gpu import Gpu
from vram.memory.placement import Placement
from vram.planner.bulk.batch import Batch, Cards, Flags, Ranks, Work
from vram.planner.bulk.engines.base import BulkEngine
from vram.planner.bulk.engines.generic import GENERIC
from vram.planner.bulk.engines.llama_cpp import LLAMA_CPP
from vram.planner.bulk.engines.sglang import SGLANG
from vram.planner.bulk.engines.tensorrt_llm import TENSORRT_LLM
from vram.planner.bulk.engines.transformers import TRANSFORMERS
from vram.planner.bulk.engines.vllm import VLLM
from vram.planner.bulk.facts import Facts, Ints
from vram.planner.bulk.file import COUNTS, LAYER_COUNTS
from vram.planner.bulk.place import Place
from vram.planner.bulk.table import Question, Table
from vram.planner.make import DEFAULT_HEADROOM, MOST_SEQUENCES, _check, _formats

BULK: Final[dict[str, BulkEngine]] = {
    "generic": GENERIC,
    "llama.cpp": LLAMA_CPP,
    "ollama": LLAMA_CPP,
    "sglang": SGLANG,
    "tensorrt-llm": TENSORRT_LLM,
    "transformers": TRANSFORMERS,
    "vllm": VLLM,
}
MOST_CONTEXT, MOST_TOKENS = 2**24, 2**38
"""Longer contexts, and more of them at once, are planned one by one: products of bytes and tokens must stay within 64 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Variants on one placement, on cards that are alike to the engine: the unit that is computed at once."""

    engine: str
    placement: Placement
    variants: Ints
    places: tuple[int, ...]


def candidates(
    facts: Facts,
    places: Sequence[Place],
    *,
    context_tokens: int,
    concurrency: int = 1,
    kv_dtype: str | None = None,
    headroom: float = DEFAULT_HEADROOM,
    models: Sequence[str] | None = None,
    quants: Sequence[str] | None = None,
    engines: Sequence[str] | None = None,
) -> Table:
    """Plan all that can be run: each row equals `make_plan` for the same model, cards, engine and workload to the byte.

    Args:
        facts: the compiled catalogue.
        places: cards that could be used, all of a place together.
        context_tokens: tokens of one sequence.
        concurrency: sequences at the same time.
        kv_dtype: type of the cache; None for the engine's or model's own.
        headroom: share of the weights to keep free above them.
        models: ids of the catalogue; None for all.
        quants: names of `--quant`, empty for the checkpoint as it is published; None for all that engines are known to run.
        engines: names of engines; None for those that a choice offers.

    Raises:
        UsageError: a number out of range, an unknown model, quantization, engine or KV type.
    """
    _check("--context", context_tokens, 1, MOST_CONTEXT)
    _check("--concurrency", concurrency, 1, MOST_SEQUENCES)
    _check("--context x --concurrency", context_tokens * concurrency, 1, MOST_TOKENS)
    _check("--headroom", headroom, 0, 10, whole=False)
    for place in places:
        _check("the number of GPUs", place.count, 1, max(COUNTS))
    names = tuple(rules_of(name).name for name in (ENGINES if engines is None else engines))
    work = Work(context_tokens=context_tokens, concurrency=concurrency, kv_dtype=kv_dtype, formats=_formats)
    question = Question(context_tokens=context_tokens, concurrency=concurrency, kv_dtype=kv_dtype, headroom=headroom)
    chosen = _variants(facts, models, quants)
    chunks = [_rows(facts, work, headroom, tuple(places), names, group) for group in _groups(facts, names, tuple(places), chosen)]
    return _table(facts, question, names, tuple(places), _wanted(facts, models), chunks)


def _variants(facts: Facts, models: Sequence[str] | None, quants: Sequence[str] | None) -> Flags:
    """Variants of the models and quantizations that are asked for."""
    mask = np.ones(len(facts.column["body"]), dtype=np.bool_)
    if models is not None:
        bodies = np.array([facts.models[i].body for i in np.flatnonzero(_wanted(facts, models))], dtype=np.int64)
        mask &= np.isin(facts.column["body"], bodies)
    if quants is not None:
        unknown = [q for q in quants if q not in facts.quants]
        if unknown:
            raise UsageError(f"no table of {unknown[0][:60]!r}", hint=f"one of {', '.join(q for q in facts.quants if q)}")
        mask &= np.isin(facts.column["quant"], [facts.quants.index(q) for q in quants])
    return mask


def _wanted(facts: Facts, models: Sequence[str] | None) -> Flags:
    """Which models are asked for."""
    if models is None:
        return np.ones(len(facts.models), dtype=np.bool_)
    unknown = [m for m in models if m not in facts.place]
    if unknown:
        raise UsageError(f"{unknown[0][:80]} is not in the built-in catalogue", hint="see `vram models`")
    mask = np.zeros(len(facts.models), dtype=np.bool_)
    mask[[facts.place[m] for m in models]] = True
    return mask


def _groups(facts: Facts, engines: Sequence[str], places: tuple[Place, ...], chosen: Flags) -> Iterator[_Group]:
    """What can be computed together."""
    body = facts.column["body"]
    for name in engines:
        rules, bulk = rules_of(name), BULK[name]
        weights = getattr(facts, bulk.weights).starts >= 0
        if name in OFFERED:
            weights &= np.isin(facts.column["quant"], [0, *(facts.quants.index(q) for q in OFFERED[name] if q in facts.quants)])
        able = np.flatnonzero(chosen & weights)
        counts = LAYER_COUNTS if rules.layer_split else COUNTS
        for count in dict.fromkeys(p.count for p in places):
            if count not in counts:
                continue
            here = [i for i, p in enumerate(places) if p.count == count]
            stages = (facts.dealt_counts if rules.layer_split else facts.pp)[body[able], counts.index(count)]
            for pp in np.unique(stages[stages > 0]).tolist():
                variants = able[stages == pp]
                placement = _one(1 if rules.layer_split else count // pp, pp)
                alike: dict[Any, list[int]] = {}
                for i in here:
                    key = bulk.alike(places[i].gpu, placement)
                    if key is not None:
                        alike.setdefault(key, []).append(i)
                for members in alike.values():
                    yield _Group(engine=name, placement=placement, variants=variants, places=tuple(members))


@lru_cache(maxsize=256)
def _one(tp: int, pp: int) -> Placement:
    """One object a placement: results are looked up by it."""
    return Placement(tp=tp, pp=pp)


def _ask(facts: Facts, work: Work, group: _Group, gpus: tuple[Gpu, ...]) -> tuple[Batch, Cards, Ranks]:
    subjects, subject_of = facts.subjects(group.variants, kernels=group.engine == "vllm")
    batch = Batch(
        facts=facts,
        rules=rules_of(group.engine),
        work=work,
        placement=group.placement,
        variants=group.variants,
        subjects=subjects,
        subject_of=subject_of,
    )
    cards = Cards.of(gpus)
    return batch, cards, BULK[group.engine].ranks(batch, cards)


def _rows(facts: Facts, work: Work, headroom: float, places: tuple[Place, ...], engines: tuple[str, ...], group: _Group) -> dict[str, Any]:
    """Columns of a group: (variants x places), flattened, without what the engine or the card does not run."""
    gpus = tuple(places[i].gpu for i in group.places)
    batch, cards, ranks = _ask(facts, work, group, gpus)
    usable = cards.capacity - np.array([places[i].used_bytes for i in group.places], dtype=np.int64)[None, None, :]
    total = sum(band.bytes for _, band in ranks.parts())
    most = sum(band.high for _, band in ranks.parts())
    spare = usable - total
    if ranks.pool:
        pool = ranks.kv_cache
        # A model without caches has a pool of nothing.
        spare = np.where((pool.bytes == 0) & (ranks.needed == 0), spare, np.minimum(spare, pool.bytes - ranks.needed))
        short = np.maximum(most - pool.high + pool.low - usable, ranks.needed - pool.low)
        room = pool.bytes
    else:
        short = most - usable
        room = np.maximum(usable - total + ranks.kv_cache.bytes, 0)
    safe = ((short <= 0) & (ranks.weights.bytes * (1 + headroom) <= usable)).all(axis=1)
    least = spare.min(axis=1)
    shape = least.shape
    gap = batch.rules.rank_gap(cards.gpu, group.placement).bytes if ranks.pool else 0
    tokens, sequences, pool_bytes = _poorest(ranks, np.broadcast_to(room, (shape[0], group.placement.pp, shape[1])), gap)
    runs = _runs(batch, group.engine, gpus)
    if ranks.possible is not None:
        runs &= ranks.possible[:, None]
    row, card = np.nonzero(runs)
    return {
        "variant": group.variants[row],
        "engine": np.full(len(row), engines.index(group.engine)),
        "place": np.array(group.places)[card],
        "tp": np.full(len(row), group.placement.tp),
        "pp": np.full(len(row), group.placement.pp),
        "verdict": np.where(least < 0, 0, np.where(safe, 2, 1))[row, card],
        "spare_bytes": least[row, card],
        "weight_bytes": np.broadcast_to(ranks.weights.bytes.sum(axis=1) * group.placement.tp, shape)[row, card],
        "pool_bytes": pool_bytes[row, card],
        "capacity_tokens": tokens[row, card],
        "max_concurrency": sequences[row, card],
    }


def _poorest(ranks: Ranks, room: Any, gap: int) -> tuple[Any, Any, Any]:
    """Of the stages the one that holds the fewest sequences: tokens, sequences, room; the first of equals, and any before one that keeps nothing."""
    tokens, sequences = ranks.capacity(np.maximum(room - gap, 0) if gap else room)
    tokens, sequences = np.broadcast_to(tokens, room.shape), np.broadcast_to(sequences, room.shape)
    best = tokens[:, 0], sequences[:, 0], room[:, 0]
    for stage in range(1, room.shape[1]):
        poorer = np.isnan(best[1]) | (sequences[:, stage] < best[1])
        best = tuple(np.where(poorer, new[:, stage], old) for new, old in zip((tokens, sequences, room), best, strict=True))
    return best


def _runs(batch: Batch, engine: str, gpus: tuple[Gpu, ...]) -> Flags:
    """Whether the engine is known to run each variant's method on each card; the generic engine runs all."""
    if engine not in OFFERED:
        return np.ones((len(batch.variants), len(gpus)), dtype=np.bool_)
    facts = batch.facts
    known = np.array([[rule_for(engine, m, g.vendor, g.compute_capability) is not None for g in gpus] for m in facts.methods], dtype=np.bool_)
    return np.asarray(known[facts.method[batch.variants]])


def _table(facts: Facts, question: Question, engines: tuple[str, ...], places: tuple[Place, ...], wanted: Flags, chunks: list[dict[str, Any]]) -> Table:
    """One table of all chunks; models that share a body share its rows."""
    types = {
        "variant": np.int32,
        "engine": np.int16,
        "place": np.int16,
        "tp": np.int16,
        "pp": np.int16,
        "verdict": np.int8,
        "max_concurrency": np.float64,
    }
    names = (
        tuple(chunks[0])
        if chunks
        else ("variant", "engine", "place", "tp", "pp", "verdict", "spare_bytes", "weight_bytes", "pool_bytes", "capacity_tokens", "max_concurrency")
    )
    joined = {n: np.concatenate([np.asarray(c[n], dtype=types.get(n, np.int64)) for c in chunks] or [np.empty(0, dtype=types.get(n, np.int64))]) for n in names}
    members = np.array([m.body for m in facts.models], dtype=np.int64)
    members = np.where(wanted, members, -1)
    order = np.argsort(members, kind="stable")
    order = order[members[order] >= 0]
    starts = np.searchsorted(members[order], np.arange(len(facts.bodies)))
    sizes = np.searchsorted(members[order], np.arange(len(facts.bodies)), side="right") - starts
    body = facts.column["body"][joined["variant"]]
    times = sizes[body]
    rows = np.repeat(np.arange(len(body)), times)
    nth = np.arange(len(rows)) - np.repeat(np.cumsum(times) - times, times)
    model = order[starts[body[rows]] + nth]
    columns = {name: values[rows] for name, values in joined.items()}
    return Table(
        facts=facts,
        question=question,
        engines=engines,
        places=places,
        model=model.astype(np.int16),
        quant=facts.column["quant"][columns["variant"]].astype(np.int16),
        **columns,
    )


def parts_of(table: Table, rows: Ints) -> list[dict[str, Ints]]:
    """See `Table.parts`."""
    facts, q = table.facts, table.question
    work = Work(context_tokens=q.context_tokens, concurrency=q.concurrency, kv_dtype=q.kv_dtype, formats=_formats)
    out: list[dict[str, Ints]] = [{} for _ in rows]
    groups: dict[Any, list[int]] = {}
    for at, row in enumerate(rows.tolist()):
        engine, place = table.engines[table.engine[row]], table.places[table.place[row]]
        placement = _one(int(table.tp[row]), int(table.pp[row]))
        groups.setdefault((engine, placement, BULK[engine].alike(place.gpu, placement)), []).append(at)
    for (engine, placement, _), members in groups.items():
        chosen = rows[members]
        variants, variant_of = np.unique(table.variant[chosen].astype(np.int64), return_inverse=True)
        places, place_of = np.unique(table.place[chosen], return_inverse=True)
        group = _Group(engine=engine, placement=placement, variants=variants, places=tuple(places.tolist()))
        _, _, ranks = _ask(facts, work, group, tuple(table.places[i].gpu for i in group.places))
        shape = (len(variants), placement.pp, len(places))
        for name, band in ranks.parts():
            ends = [np.broadcast_to(np.asarray(x), shape)[variant_of, :, place_of] for x in (band.bytes, band.low, band.high)]
            for i, member in enumerate(members):
                out[member][name] = np.stack([end[i] for end in ends], axis=1)
        needed = np.broadcast_to(np.asarray(ranks.needed), shape)[variant_of, :, place_of]
        for i, member in enumerate(members):
            out[member]["needed"] = needed[i]
    return out
