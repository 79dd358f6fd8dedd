"""How fast many plans are: the work of every stage summed from the compiled catalogue, the clock's roofline over arrays.

The scalar clock (speed/clock.py) is the oracle: equal to 1e-12. What differs by model alone is asked of speed/work.py once for each;
the figures that people ask for (prefill, time of an output token) are speed/estimate.py's own functions.
"""

from dataclasses import dataclass, fields
from types import SimpleNamespace
from typing import Any

import numpy as np

from vram.engines.base import Settings
from vram.engines.registry import engine as rules_of
from vram.hardware.gpu import Gpu
from vram.memory.placement import Placement
from vram.memory.weights import Split
from vram.model.cache import CacheFormats
from vram.model.memo import once_per_model
from vram.model.model import Model
from vram.planner.bulk.batch import Batch, Floats, Work
from vram.planner.bulk.facts import Ints, Subject
from vram.planner.bulk.file import MOVED, SPLITS, TYPES
from vram.planner.bulk.table import Speeds, Table
from vram.planner.make import _formats
from vram.speed import work as scalar
from vram.speed.calibration import WEIGHTS_16_BITS, entry_for, weight_class
from vram.speed.clock import _NO_PEAK, HOP_MESSAGES, SLOW_LINK, engine_peak, launched_layers, peak_flops, sampling_seconds, vector_flops
from vram.speed.estimate import chunk_tokens, decode_seconds, prefill_seconds, tpot_seconds, ttft_seconds
from vram.speed.rates import Rates
from vram.speed.spread import Spread
from vram.speed.unpacking import unpacking

_AT = {name: i for i, name in enumerate(MOVED)}
_KINDS = (*(Split(name) for name in SPLITS), Split.EXPERT)
_OF_KIND = 5
"""Numbers that every layer of a kind adds to a stage, windows aside."""


def speeds_of(table: Table, rows: Ints) -> Speeds:
    """See `Table.speed`."""
    names = tuple(f.name for f in fields(Speeds))
    out = {name: np.full(len(rows), np.nan) for name in names}
    keys = np.stack([table.engine[rows], table.tp[rows], table.pp[rows]], axis=1)
    kinds, which = _distinct(keys)
    for number, (engine, tp, pp) in enumerate(kinds.tolist()):
        members = np.flatnonzero(which.reshape(-1) == number)
        found = _group(table, rows[members], table.engines[engine], Placement(tp=tp, pp=pp))
        for name in names:
            out[name][members] = found[name]
    return Speeds(**out)


def _distinct(keys: Any) -> tuple[Ints, Ints]:
    """The distinct rows of small numbers, and which each row is."""
    packed = keys.astype(np.int64) @ np.array([1 << 40, 1 << 20, 1], dtype=np.int64)
    _, first, which = np.unique(packed, return_index=True, return_inverse=True)
    return keys[first], which.reshape(-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cards:
    """The cards of a group: each row's among the distinct ones."""

    gpus: tuple[Gpu, ...]
    of: Ints

    def each(self, values: list[float]) -> Floats:
        """A number of each row's card, shaped (rows, 1)."""
        return np.array(values, dtype=np.float64)[self.of][:, None]


def _group(table: Table, rows: Ints, engine: str, placement: Placement) -> dict[str, Floats]:
    facts, q = table.facts, table.question
    subjects, subject_of = facts.subjects(table.variant[rows].astype(np.int64))
    batch = Batch(
        facts=facts,
        rules=rules_of(engine),
        work=Work(context_tokens=q.context_tokens, concurrency=q.concurrency, kv_dtype=q.kv_dtype, formats=_formats),
        placement=placement,
        variants=table.variant[rows].astype(np.int64),
        subjects=subjects,
        subject_of=subject_of,
    )
    places, place_of = np.unique(table.place[rows], return_inverse=True)
    cards = _Cards(gpus=tuple(table.places[i].gpu for i in places.tolist()), of=place_of.reshape(-1))
    clock = _clock(batch, cards, engine)
    context, sequences = q.context_tokens, q.concurrency
    output = max(1, min(1024, context // 8))
    prompt = max(1, context - output)
    chunk = chunk_tokens(engine, Settings())
    decodes = np.array([bool(s.model.layers) and not s.model.geometry.encoder_only for s in subjects])[subject_of]
    known = decodes & (cards.each([g.bandwidth_bytes_per_second or 0.0 for g in cards.gpus])[:, 0] > 0)
    computes = known & (cards.each([peak_flops(g, "bf16") or 0.0 for g in cards.gpus])[:, 0] > 0)
    with np.errstate(all="ignore"):
        reading = prefill_seconds(clock, prompt, chunk=chunk)
        figures: dict[str, Any] = {
            "decode_tokens_per_second": 1 / decode_seconds(clock, prompt, output, 1),
            "tpot_seconds": tpot_seconds(clock, prompt, output, sequences, chunk=chunk),
            "prefill_tokens_per_second": np.where(computes, prompt / reading, np.nan),
            "ttft_seconds": np.where(computes, ttft_seconds(clock, prompt, chunk=chunk), np.nan),
        }
    doubts = {f"{name}_doubt": getattr(clock.entry.doubt, name) for name in ("decode", "tpot", "prefill", "ttft", "ttft_less")}
    return {name: np.where(known, value, np.nan) for name, value in (figures | doubts).items()}


def _clock(batch: Batch, cards: _Cards, engine: str) -> Any:
    """The clock of a group, as far as speed/estimate.py asks one: `seconds`, the spread, and the rates and doubts of its entry."""
    placement, spread = batch.placement, Spread.of(batch.placement, sequential=batch.rules.layer_split)
    moved = batch.facts.moved(placement.pp)[batch.variants]  # (rows, stages, MOVED)
    shares = np.array([_shares(s.model, spread) for s in batch.subjects])[batch.subject_of]

    def dense(of: str) -> Floats:
        return np.asarray(sum(moved[:, :, _AT[f"{of}_{name}"]] * shares[:, i, None] for i, name in enumerate(SPLITS)))

    even = shares[:, SPLITS.index("even"), None]
    expert_layers = batch.facts.expert_layers(placement.pp)[batch.variants]
    stored = moved[:, :, [_AT[f"bytes_{name}"] for name in SPLITS]].sum(axis=2) + moved[:, :, _AT["expert_bytes"]]
    parameters = moved[:, :, [_AT[f"parameters_{name}"] for name in SPLITS]].sum(axis=2) + moved[:, :, _AT["expert_parameters"]]
    bits = np.where(parameters > 0, 8 * stored / np.maximum(parameters, 1), 16.0)
    active = _by_subject(batch, _active)
    rates, doubt = _entries(cards, engine, bits[:, 0], expert_layers[:, -1] > 0)
    bandwidth = cards.each([g.bandwidth_bytes_per_second or np.nan for g in cards.gpus])
    peaks = [rates.compute_share * _peaks(cards, engine, moved[:, :, [_AT[f"{kind}_{t}"] for t in TYPES]].argmax(axis=2), bits) for kind in ("dense", "expert")]
    half = cards.each([engine_peak(engine, g, "bf16", 16) or _NO_PEAK for g in cards.gpus])
    attention = rates.attention_share * half
    link = cards.each([(g.link.bytes_per_second if g.link else None) or SLOW_LINK for g in cards.gpus])
    layers = batch.each(lambda s, stage: batch.facts.stage_layers(s.body, placement.pp)[stage])[:, :, 0]
    ranks = spread.expert_ranks
    exchanges = 2 * layers if ranks > 1 else 0 * layers
    message = 2 * _by_subject(batch, lambda s: s.model.geometry.hidden_size)
    reads = _reads(batch, spread)
    growing, fixed, pair, prefill, recurrent = (reads[:, :, i] for i in range(_OF_KIND))
    windows = [tuple(reads[:, :, _OF_KIND + 3 * i + k] for k in range(3)) for i in range((reads.shape[2] - _OF_KIND) // 3)]
    vector = cards.each([vector_flops(engine, g) or 0.0 for g in cards.gpus]) / _unpacking(batch)

    def read(nbytes: Floats, share: Any, operations: Floats) -> Floats:
        """speed/clock.py, _read."""
        reading = nbytes / (share * bandwidth)
        return np.asarray(np.where(vector > 0, _roof(reading, operations / (rates.vector_share * vector)), reading))

    dense_ops, head_ops = 2 * dense("parameters"), 2 * (moved[:, :, _AT["head_parameters"]] * even)
    expert_share = shares[:, len(SPLITS), None]
    expert_ops = 2 * (moved[:, :, _AT["expert_parameters"]] * expert_share)
    with np.errstate(all="ignore"):
        dense_read = read(dense("bytes"), rates.memory_share, dense_ops)
        head_read = read(moved[:, :, _AT["head_bytes"]] * even, rates.memory_share, head_ops)
        expert_read = read(moved[:, :, _AT["expert_bytes"]] * expert_share, rates.expert_share, expert_ops)
    dense_token, head_row, expert_token = dense_ops / peaks[0], head_ops / (rates.compute_share * half), expert_ops * active / peaks[1]
    cache_byte = 1 / (rates.cache_share * bandwidth)
    always = rates.layer_seconds * launched_layers(engine, layers, recurrent) + rates.expert_layer_seconds * expert_layers + exchanges * rates.message_seconds
    sampled = sampling_seconds(engine, head_ops, message)
    message_token = exchanges * 2 * (ranks - 1) / ranks * message / (rates.link_share * link)
    missed = 1.0 - np.where(expert_layers > 0, active, 0.0)

    def stages(prefill_tokens: float, pairs: float, sequences: float, kv_tokens: float) -> Floats:
        """speed/clock.py, StageClock.seconds, of all stages together."""
        tokens = prefill_tokens + sequences
        total = always + _roof(dense_read, dense_token * tokens) + _roof(head_read, head_row * (sequences or 1))
        total = total + np.where(expert_read > 0, _roof(expert_read * (1.0 - missed**tokens), expert_token * tokens), 0.0)
        if sequences:
            held = kv_tokens / sequences
            operations, read = pair / attention * kv_tokens, fixed + growing * held
            for row, window, one in windows:
                operations = operations + one / attention * sequences * np.minimum(held, window)
                read = read + row * np.minimum(held, window)
            total = total + _roof(cache_byte * sequences * read, operations) + (rates.sequence_seconds + sampled) * sequences
        if prefill_tokens:
            held = pairs / prefill_tokens
            total = total + prefill / attention * pairs
            for _, window, one in windows:
                total = total + one / attention * prefill_tokens * np.minimum(held, window)
        return np.asarray((total + message_token * tokens).sum(axis=1))

    def seconds(prefill_tokens: float, prefill_pairs: float, decode_sequences: float, kv_tokens: float) -> Floats:
        """speed/clock.py, Clock.seconds."""
        share = 1.0 if spread.sequential else float(spread.pp)
        n, p = decode_sequences / share, prefill_tokens / share
        if decode_sequences and n < 1:
            n, share = 1.0, float(decode_sequences)
        pairs = prefill_pairs / spread.pp if not spread.sequential else prefill_pairs
        hops = rates.step_seconds + HOP_MESSAGES * rates.message_seconds * (spread.pp - 1)
        return np.asarray(hops[:, 0] + stages(p, pairs, n, kv_tokens / share))

    flat = SimpleNamespace(**{f.name: getattr(rates, f.name)[:, 0] for f in fields(Rates)})
    return SimpleNamespace(seconds=seconds, spread=spread, entry=SimpleNamespace(rates=flat, doubt=doubt))


def _roof(reading: Any, computing: Any) -> Any:
    squares = reading * reading, computing * computing
    return np.sqrt(np.sqrt(squares[0] * squares[0] + squares[1] * squares[1]))


@once_per_model
def _shares(model: Model, spread: Spread) -> tuple[float, ...]:
    """The share of weights of each way to split them that one rank holds."""
    if spread.tp == 1:
        return (1.0,) * len(_KINDS)
    return tuple([scalar._share(SimpleNamespace(split=kind), model, spread) for kind in _KINDS])  # type: ignore[arg-type]  # noqa: SLF001


def _by_subject(batch: Batch, of: Any) -> Floats:
    """A number of each row's subject, shaped (rows, 1)."""
    return np.array([of(s) for s in batch.subjects], dtype=np.float64)[batch.subject_of][:, None]


def _unpacking(batch: Batch) -> Floats:
    """How much longer each row's weights take to unpack, shaped (rows, 1)."""
    labels, which = np.unique(batch.facts.column["label"][batch.variants], return_inverse=True)
    return np.array([unpacking(batch.facts.labels[n] if n >= 0 else "") for n in labels.tolist()])[which.reshape(-1)][:, None]


def _active(s: Subject) -> float:
    g = s.model.geometry
    return min(g.experts_per_token, g.experts) / g.experts if g.experts else 0.0


def _peaks(cards: _Cards, engine: str, kinds: Ints, bits: Floats) -> Floats:
    """What an engine's kernels reach of each row's card for its type and width of weights, shaped as `kinds`."""
    widths, width_of = np.unique(np.where(bits < WEIGHTS_16_BITS, 0.0, float(WEIGHTS_16_BITS)), return_inverse=True)
    table = np.array([[[engine_peak(engine, g, t, w) or _NO_PEAK for w in widths.tolist()] for t in TYPES] for g in cards.gpus])
    return np.asarray(table[cards.of[:, None], kinds, width_of.reshape(bits.shape)])


def _entries(cards: _Cards, engine: str, bits: Floats, sparse: Any) -> tuple[Any, Any]:
    """Rates shaped (rows, 1) and doubts (rows): the calibration's entry for each row."""
    widths, bit_of = np.unique(bits, return_inverse=True)
    names, name_of = np.unique([weight_class(b) for b in widths.tolist()], return_inverse=True)
    some = {name: float(widths[name_of.reshape(-1) == i][0]) for i, name in enumerate(names.tolist())}
    keys = np.stack([cards.of, name_of.reshape(-1)[bit_of.reshape(-1)], sparse.astype(np.int64)], axis=1)
    kinds, which = _distinct(keys)
    found = [entry_for(engine, cards.gpus[card], some[names[name]], experts=bool(moe)) for card, name, moe in kinds.tolist()]
    at = which.reshape(-1)
    rates = SimpleNamespace(**{f.name: np.array([getattr(e.rates, f.name) for e in found])[at][:, None] for f in fields(Rates)})
    doubt = SimpleNamespace(**{f.name: np.array([getattr(e.doubt, f.name) for e in found])[at] for f in fields(found[0].doubt)})
    return rates, doubt


def _reads(batch: Batch, spread: Spread) -> Floats:
    """What attention reads and computes on each stage.

    Growing and fixed bytes, operations of a pair while decoding and in a prefill, recurrent layers; then for each window bytes of a token, tokens, operations.
    """
    values = [_reads_of(batch, s, spread) for s in batch.subjects]
    most = max(len(v[0]) for v in values)
    full = np.zeros((len(values), batch.placement.pp, most))
    for at, stages in enumerate(values):
        for stage, numbers in enumerate(stages):
            full[at, stage, : len(numbers)] = numbers
    return np.asarray(full[batch.subject_of])


def _reads_of(batch: Batch, s: Subject, spread: Spread) -> list[list[float]]:
    # What a kind of layers reads does not depend on how many stages there are.
    kinds, windows, widths = _kinds(s.model, s.body.layers, Spread(tp=spread.tp), batch.workload(s).formats)
    out = []
    for counts in batch.facts.stage_kinds(s.body, batch.placement.pp):
        numbers = [sum([n * kinds[kind][i] for kind, n in counts.items()]) for i in range(_OF_KIND)]
        for w in widths:
            row = sum([n * windows[kind].get(w, (0.0, 0.0))[0] for kind, n in counts.items()])
            one = sum([n * windows[kind].get(w, (0.0, 0.0))[1] for kind, n in counts.items()])
            numbers += [row, float(w), one]
        out.append(numbers)
    return out


_Windows = dict[int, dict[int, tuple[float, float]]]


@once_per_model
def _kinds(model: Model, layers: bytes, spread: Spread, formats: CacheFormats) -> tuple[dict[int, tuple[float, ...]], _Windows, tuple[int, ...]]:
    """Of each kind of layers what one reads and computes, of its windows too, and the widths of all windows."""
    kinds: dict[int, tuple[float, ...]] = {}
    windows: _Windows = {}
    for i, kind in enumerate(layers):
        if kind not in kinds:
            reads, decode, window_pairs, prefill = scalar._attention(model, (i, i + 1), spread, formats)  # noqa: SLF001  (the clock's own rule)
            kinds[kind] = reads.growing, reads.fixed, decode, prefill, float(scalar._recurrent(model, (i, i + 1)))  # noqa: SLF001
            windows[kind] = {w: (row, one) for (row, w), one in zip(reads.windows, window_pairs, strict=True)}
    return kinds, windows, tuple(sorted({w for kept in windows.values() for w in kept}))
