"""How fast a demand runs: the figures that people ask for, from the step clock, each with its band."""

from dataclasses import dataclass

from vram.engines.base import Demand, Settings
from vram.engines.registry import engine as engine_named
from vram.speed.calibration import Entry
from vram.speed.clock import Clock, clock, peak_flops, unknown
from vram.speed.draft import Drafting, drafted_seconds
from vram.speed.figure import Figure

MOST_SEQUENCES = 65536
CHUNKS = {"llama.cpp": 512, "ollama": 512, "mlx": 2048, "transformers": 2**30}
CHUNK_TOKENS = 8192
"""Prompt tokens of one step where neither a setting nor the engine's default (`CHUNKS`) says another number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """What one replica does.

    Attributes:
        prompt_tokens: tokens of the prompt that the figures are for.
        output_tokens: tokens of the answer.
        concurrency: sequences at the same time.
        decode_tokens_per_second: one sequence alone.
        tpot_seconds: time of each output token at the concurrency, other sequences' prompts in between counted.
        decode_total_tokens_per_second: output tokens of all sequences together at the concurrency.
        prefill_tokens_per_second: of one prompt alone; None where the card's arithmetic is not known.
        ttft_seconds: time to the first token with nothing else running; None where the card's arithmetic is not known.
        crossover_sequences: sequences from which on a decode step is bound by arithmetic, not by memory; None: see `crossover_why`.
        crossover_step_seconds: time of that step.
        crossover_why: where the crossover lies, or why there is none.
    """

    prompt_tokens: int
    output_tokens: int
    concurrency: int
    decode_tokens_per_second: Figure
    tpot_seconds: Figure
    decode_total_tokens_per_second: Figure
    prefill_tokens_per_second: Figure | None
    ttft_seconds: Figure | None
    crossover_sequences: int | None
    crossover_step_seconds: float | None
    crossover_why: str


def why_unknown(demand: Demand) -> str:
    """Why `estimate` says nothing; empty when it does."""
    if demand.model.geometry.encoder_only or not demand.model.layers:
        return "the model does not decode" if demand.model.caches_known else "what a layer of this architecture keeps is not known"
    return unknown(demand.gpu)


def estimate(
    demand: Demand,
    engine: str,
    *,
    prompt_tokens: int | None = None,
    output_tokens: int | None = None,
    drafting: Drafting | None = None,
) -> Speed | None:
    """The speed of a demand; None where `why_unknown` says why.

    Args:
        demand: model, card, placement, workload and settings.
        engine: name of the engine.
        prompt_tokens: tokens of the prompt; what the answer leaves of the context when None.
        output_tokens: tokens of the answer; an eighth of the context, at most 1,024, when None.
        drafting: tokens drafted ahead and how likely one is kept; None: none are, whatever the settings name as a drafter.

    Raises:
        UsageError: no such engine.
        PlacementError: more stages than layers.
    """
    if why_unknown(demand):
        return None
    context, together = demand.workload.context_tokens, demand.workload.concurrency
    sequences = each_copys(demand)
    output = output_tokens or max(1, min(1024, context // 8))
    prompt = prompt_tokens or max(1, context - output)
    engine = engine_named(engine).name
    c = clock(demand, engine)
    chunk = chunk_tokens(engine, demand.settings)
    alone = decode_seconds(c, prompt, output, 1)
    tpot = tpot_seconds(c, prompt, output, sequences, chunk=chunk)
    if drafting is not None:
        held = prompt + output // 2
        own = alone
        alone = drafted_seconds(c, demand, engine, drafting, held, 1)
        # The prompts of others come in between as before.
        tpot += drafted_seconds(c, demand, engine, drafting, held, sequences) - decode_seconds(c, prompt, output, sequences) if sequences > 1 else alone - own
    computes = peak_flops(demand.gpu, "bf16") is not None
    reading = prefill_seconds(c, prompt, chunk=chunk) if computes else None
    many, step, why = crossover(c, prompt + output // 2) if computes else (None, None, f"the arithmetic of {demand.gpu.name} is not known")
    doubt, entry = c.entry.doubt, c.entry
    return Speed(
        prompt_tokens=prompt,
        output_tokens=output,
        concurrency=together,
        decode_tokens_per_second=_figure(1 / alone, doubt.decode, entry),
        tpot_seconds=_figure(tpot, doubt.decode if sequences == 1 else doubt.tpot, entry),
        decode_total_tokens_per_second=_figure(together / tpot, doubt.decode if sequences == 1 else doubt.tpot, entry),
        prefill_tokens_per_second=None if reading is None else _figure(prompt / reading, doubt.prefill, entry),
        ttft_seconds=None if reading is None else _figure(ttft_seconds(c, prompt, chunk=chunk), doubt.ttft, entry, less=doubt.ttft_less),
        crossover_sequences=many,
        crossover_step_seconds=step,
        crossover_why=why,
    )


def each_copys(demand: Demand) -> int:
    """Sequences of each copy of attention when all of a demand's run: what a clock counts."""
    return -(-demand.workload.concurrency // demand.placement.dp)


def _figure(value: float, factor: float, entry: Entry, *, less: float | None = None) -> Figure:
    return Figure(value=value, low=value / (less or factor), high=value * factor, source="calibrated" if entry.calibrated else "formula", why=entry.why)


def decode_seconds(c: Clock, prompt: int, output: int, sequences: int) -> float:
    """Seconds of a decode step of so many sequences at their mean length."""
    return c.seconds(0, 0, sequences, sequences * (prompt + output // 2))


def chunk_tokens(engine: str, settings: Settings) -> int:
    """Prompt tokens that an engine reads in one step."""
    return settings.max_batched_tokens or settings.ubatch or CHUNKS.get(engine, CHUNK_TOKENS)


def prefill_seconds(c: Clock, prompt: int, *, chunk: int, held: int = 0) -> float:
    """Seconds until a lone prompt behind `held` cached tokens is read, in equal chunks.

    It is a whole chunk that passes one pipeline stage after the other; the next chunk follows a stage behind it.
    """
    depth = 1 if c.spread.sequential else c.spread.pp
    chunks = max(1, -(-prompt // chunk))
    # The clock gives each stage its share of the tokens: so many tokens that the share is the chunk.
    return (chunks + depth - 1) / depth * _chunk_seconds(c, prompt, chunks, held, depth)


def reading_seconds(c: Clock, prompt: int, *, chunk: int) -> float:
    """Seconds of a replica that a prompt takes up among many others: every stage reads some prompt's chunk all the time."""
    chunks = max(1, -(-prompt // chunk))
    return chunks * _chunk_seconds(c, prompt, chunks, 0, 1)


def _chunk_seconds(c: Clock, prompt: int, chunks: int, held: int, times: int) -> float:
    tokens = prompt / chunks
    pairs = (prompt * (prompt + 1) // 2 + prompt * held) / chunks
    return c.seconds(times * tokens, times * pairs, 0, 0)


def tpot_seconds(c: Clock, prompt: int, output: int, sequences: int, *, chunk: int) -> float:
    """Seconds of an output token when every sequence that ends is followed by a new prompt."""
    step = decode_seconds(c, prompt, output, sequences)
    if sequences == 1:
        return step
    return step + c.entry.rates.interleave * (sequences - 1) / output * reading_seconds(c, prompt, chunk=chunk)


def ttft_seconds(c: Clock, prompt: int, sequences: int = 1, *, chunk: int) -> float:
    """Seconds to the first token, in a steady load of so many sequences."""
    r = c.entry.rates
    return r.first_seconds + prefill_seconds(c, prompt, chunk=chunk) + reading_seconds(c, prompt, chunk=chunk) * r.queue * (sequences - 1)


def crossover(c: Clock, held: int) -> tuple[int | None, float | None, str]:
    """Sequences from which on a decode step's operations take longer than its bytes; with that step's time, and in words.

    Where caches keep it from ever turning, the words say where the weights alone would.
    """
    many = _turns(c, held)
    if many is not None:
        return many, c.seconds(0, 0, many, many * held), f"below {many:,} sequences of {held:,} tokens memory binds a decode step, from there on arithmetic"
    weights = _turns(c, 0)
    alone = f"; the weights alone turn at {weights:,} sequences" if weights is not None else ""
    return None, None, f"memory binds a decode step of any number of sequences of {held:,} tokens: each reads more cache than it computes{alone}"


def _turns(c: Clock, held: int) -> int | None:
    """The fewest sequences of `held` cached tokens whose step is bound by arithmetic; None: however many, it is not."""

    def bound_by_arithmetic(n: int) -> bool:
        reading = computing = 0.0
        for s in c.stages:
            w = s.work
            reading += s.dense_read + s.head_read + s.expert_read * w.expert_share(n) + (s.cache_byte * n * w.reads.at(held) if held else 0.0)
            computing += n * (s.dense_token + s.head_row + s.expert_token + s.decode_pair * held)
        return computing >= reading

    if not bound_by_arithmetic(MOST_SEQUENCES):
        return None
    low, high = 0, MOST_SEQUENCES
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if bound_by_arithmetic(middle) else (middle, high)
    return high
