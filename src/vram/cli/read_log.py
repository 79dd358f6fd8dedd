"""`vram read-log FILE`: what an engine printed about memory when it started, beside what is planned for it."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from vram.cli.types import last_fleet
from vram.errors import UsageError, VramError

if TYPE_CHECKING:
    from vram.engines.logs.base import EngineLog
    from vram.planner.plan import Plan

MAX_BYTES: Final = 512 * 2**20


@click.command(name="read-log", short_help="What an engine printed about memory, beside its plan.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--engine", metavar="NAME", help="Whose log it is. Default: the engine whose lines it holds.")
@click.option("--model", metavar="MODEL", help="The model, where the log does not name it or names a path of another machine.")
@click.option(
    "--gpu",
    metavar="NAME",
    multiple=True,
    callback=last_fleet,
    help='The GPUs that the engine ran on, as for vram plan: "2x H100". Default: the total that the log prints.',
)
@click.option("--save", is_flag=True, help="Keep the figures: later plans of the same model, engine, GPU and settings on this machine use them.")
@click.option("--offline", is_flag=True, help="Touch no network when the model is looked up.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, schema vram.read-log/1.")
def command(file: str, engine: str | None, model: str | None, gpu: str | None, *, save: bool, offline: bool, as_json: bool) -> None:
    """What an engine printed about memory when it started: FILE is its log, - for stdin.

    Read are logs of vLLM, SGLang, llama.cpp, Ollama and TensorRT-LLM: colours, several ranks at once, cut off or mixed with
    other words. Sizes are shown as they are, whatever letters the engine prints: vLLM and SGLang say GB and mean GiB.
    """
    from vram.engines.logs.reader import read_log

    with click.open_file(file, "rb") as stream:
        log = read_log(_chunks(stream), engine=engine.lower() if engine else None)
    if not log.engine:
        raise VramError(
            f"{file} holds no line about memory that an engine prints ({'; '.join(log.notes)})",
            hint="give the log from the engine's start on, or say whose it is: --engine vllm; read are vllm, sglang, llama.cpp, ollama and tensorrt-llm",
        )
    if save and not gpu:
        # What is kept has to be found again by the card's own name, which logs seldom print.
        from vram.api import detect

        gpu = detect().name
    plan, reason = _plan(log, model, gpu, offline=offline)
    row = _row(log, file, plan, model or "", gpu or "")
    if save:
        if plan is None:
            raise UsageError(f"only a start whose plan can be made can be saved: {reason}", hint="say which model and card it was: --model MODEL --gpu NAME")
        from vram.sources.calibration import append_row

        saved = append_row(row)
        click.echo(f"saved in {saved}", err=True)
    if as_json:
        from vram.cli.output import print_json

        print_json(_document(log, row, plan, reason))
        return
    from vram.cli.output import print_styled

    print_styled("\n".join(_words(log, plan, reason)))


def _chunks(stream: Any) -> Iterable[bytes]:
    read = 0
    while read < MAX_BYTES and (chunk := stream.read(2**20)):
        read += len(chunk)
        yield chunk


def _plan(log: "EngineLog", model: str | None, gpu: str | None, *, offline: bool) -> "tuple[Plan | None, str]":
    """The plan of that start with the settings that it was asked for, or why there is none."""
    from vram.accuracy.row import parse_row
    from vram.accuracy.subject import as_measured, fleet_of, gpu_of
    from vram.api import load_model, parse_gpus
    from vram.engines.base import Settings
    from vram.engines.logs.row import row_of
    from vram.engines.registry import ENGINE_NAMES
    from vram.planner.make import make_plan

    if log.engine not in ENGINE_NAMES:
        return None, f"there are no rules for {log.engine} yet"
    try:
        row = parse_row(row_of(log, "", model=model or "", gpu=gpu or ""))
        if not row.model_id:
            return None, "the log does not name its model (--model)"
        card, known = gpu_of(row)
        fleet = parse_gpus(gpu) if gpu else fleet_of(row, card)
        if not gpu and not known:
            return None, "the log does not tell the card (--gpu)"
        ranks = len(log.ranks) if log.engine in {"llama.cpp", "ollama"} else row.tp * row.pp
        if len(fleet.gpus) < ranks:
            fleet = type(fleet).of([fleet.gpus[0].gpu] * ranks, gpus_per_host=8)
        found = as_measured(load_model(row.model_id, offline=offline or None), row) if not row.model_id.endswith(".gguf") else load_model(row.model_id)
        asked = log.settings
        slots = _whole(asked.get("parallel"))
        context = _whole(asked.get("n_ctx")) or row.max_model_len
        # vLLM on a CPU: the pool is what VLLM_CPU_KVCACHE_SPACE says, which no line but the pool's own prints.
        cpu = log.engine == "vllm" and asked.get("device") == "cpu"
        pools = [r.value for r in log.of("kv_cache")] if cpu else []
        settings = Settings(
            version=f"{row.version}+cpu{_processor(asked)}" if cpu else row.version,
            kv_pool_bytes=(_whole(asked.get("kv_cache_memory_bytes")) or round(min(pools))) if pools else None,
            gpu_memory_utilization=_share(asked.get("gpu_memory_utilization")),
            max_num_seqs=_whole(asked.get("max_num_seqs")),
            max_batched_tokens=_whole(asked.get("max_num_batched_tokens")) if log.engine != "llama.cpp" else None,
            block_size=_whole(asked.get("block_size")),
            ubatch=_whole(asked.get("ubatch")),
            parallel=slots,
        )
        split = (None, None) if log.engine in {"llama.cpp", "ollama"} else (row.tp, row.pp)
        # llama.cpp shares its context among the slots; a plan counts the tokens of one.
        if slots and log.engine in {"llama.cpp", "ollama"} and context:
            context //= slots
        return make_plan(
            found,
            fleet,
            engine=log.engine,
            context_tokens=context,
            concurrency=slots or 1,
            kv_dtype=row.kv_dtype or None,
            tp=split[0],
            pp=split[1],
            ep=row.ep,
            settings=settings,
        ), ""
    except VramError as e:
        return None, e.message
    except ValueError as e:
        return None, str(e)


def _processor(asked: Mapping[str, str]) -> str:
    """What a log of vLLM tells of the CPU that it ran on, as versions of it are written (`cpu_release`)."""
    if asked.get("mla_backend") == "AMX_MLA":
        return ".amx"
    # Where a processor has AVX512-BF16 a line says so, of models without states, too.
    return "" if asked.get("mamba_ssm_cache_dtype") == "float32" else ".avx512"


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() and len(text) < 12 and int(text) > 0 else None


def _share(text: str | None) -> float | None:
    try:
        value = float(text) if text else None
    except ValueError:
        return None
    return value if value is not None and 0 < value <= 1 else None


def _row(log: "EngineLog", file: str, plan: "Plan | None", model: str, gpu: str) -> dict[str, Any]:
    """The corpus' row and, where there is a plan, what later plans find it by."""
    from datetime import datetime

    from vram.engines.logs.parts import parts_of
    from vram.engines.logs.row import row_of

    now = datetime.now().astimezone().isoformat(timespec="seconds")
    row = row_of(log, f"log {Path(file).name} read {now}", model=model, gpu=gpu)
    row["id"] = f"{log.engine} {now}"
    if plan is not None:
        from vram.planner.calibration import signature

        row["gpu"] = gpu or row["gpu"] or plan.gpus[0].name
        row["signature"] = signature(plan)
        row["context_tokens"], row["concurrency"] = plan.workload.context_tokens, plan.workload.concurrency
        row["parts"] = [{name: round(size) for name, size in sizes.items()} for sizes in parts_of(log, len(plan.gpus))]
    return row


def _document(log: "EngineLog", row: dict[str, Any], plan: "Plan | None", reason: str) -> dict[str, Any]:
    from vram.engines.logs.parts import parts_of
    from vram.planner.document import parts_document

    return {
        "schema": "vram.read-log/1",
        "engine": log.engine,
        "settings": log.settings,
        "readings": [{"name": r.name, "rank": r.rank, "value": r.value, "unit": "bytes" if r.is_bytes else "count", "line": r.line} for r in log.readings],
        "missing": [{"name": m.name, "what": m.what, "how": m.how} for m in log.missing],
        "failures": list(log.failures),
        "notes": list(log.notes),
        "measured": [{name: round(size) for name, size in sizes.items()} for sizes in parts_of(log, len(plan.gpus) if plan else 1)],
        "planned": [parts_document(gpu.parts) for gpu in plan.gpus] if plan else None,
        "unplanned": reason or None,
        "row": row,
    }


def _words(log: "EngineLog", plan: "Plan | None", reason: str) -> Iterator[str]:
    from vram.engines.logs.row import deciding
    from vram.errors import printable
    from vram.units import gib

    s = log.settings
    version = s.get("engine_version", "")
    title = " ".join(x for x in (log.engine, version, s.get("model_id") or s.get("model_file") or "model not named") if x)
    yield click.style(printable(title, 200), bold=True)
    shown = {k.removeprefix("default_"): v for k, v in s.items() if k not in {"engine_version", "model_id", "model_file"}}
    if shown:
        yield printable(", ".join(f"{k} {v}" for k, v in shown.items()), 900)
    yield ""
    if plan is not None:
        yield from _beside(log, plan)
    else:
        yield f"no plan beside it: {printable(reason, 300)}"
    yield ""
    yield click.style("as printed", bold=True)
    for name in dict.fromkeys(r.name for r in log.readings):
        found = [r for r in log.readings if r.name == name]
        values = [(r.rank, gib(r.value) if r.is_bytes else f"{r.value:,.10g}") for r in found]
        one = deciding(log, name)
        if len({v for _, v in values}) == 1:
            ranks = f"   ({len(values)} ranks)" if len(values) > 1 else f"   ({printable(values[0][0], 60)})" if values[0][0] in log.host else ""
            yield f"  {name:<32}{values[0][1]:>14}{ranks}"
        else:
            first = (gib(one.value) if one.is_bytes else f"{one.value:,.10g}") if one is not None else values[0][1]
            yield f"  {name:<32}{first:>14}   ({', '.join(f'{printable(r, 30)} {v}' for r, v in values[:16])})"
    if log.failures:
        yield ""
        yield click.style("it did not start", bold=True)
        yield from (f"  {printable(f, 400)}" for f in log.failures)
    if log.missing:
        yield ""
        yield click.style("not in this log", bold=True)
        yield from (f"  {m.what:<32}{m.how}" for m in log.missing)
    if log.notes:
        yield ""
        yield from (f"note: {printable(n, 300)}" for n in log.notes)


def _beside(log: "EngineLog", plan: "Plan") -> Iterator[str]:
    """Planned beside measured, part by part."""
    from vram.cli.render.plan import TITLES
    from vram.engines.logs.parts import parts_of
    from vram.units import GIB, gib

    measured = parts_of(log, len(plan.gpus))
    yield click.style(f"{'per GPU':<28}{'planned':>12}{'low':>12}{'high':>12}{'measured':>12}{'off by':>12}", bold=True)
    for place, sizes in enumerate(measured):
        # Of several pipeline stages the first one prints.
        gpu = plan.gpus[place] if len(measured) == len(plan.gpus) or plan.placement.pp > 1 else max(plan.gpus, key=lambda g: g.parts.weights.bytes)
        if len(measured) > 1:
            yield f"GPU {gpu.index}"
        for name, part in gpu.parts.items():
            size = sizes.get(name)
            label = TITLES.get(name, name.replace("_", " "))
            if size is None and not part.high:
                continue
            off, mark = "", ""
            if size is not None:
                off = f"{(size - part.bytes) / GIB:+.2f} GiB"
                doubt = 0.005 * GIB
                mark = "" if part.low - doubt <= size <= part.high + doubt else "  outside its band"
            yield f"  {label:<26}{gib(part.bytes):>12}{gib(part.low):>12}{gib(part.high):>12}{gib(size) if size is not None else '–':>12}{off:>12}{mark}"
    for name, planned in (("kv_tokens", plan.kv_pool.capacity_tokens), ("max_concurrency", plan.kv_pool.max_concurrency)):
        found = log.of(name)
        if found and planned is not None:
            value = min(r.value for r in found)
            off = f"{value / planned - 1:+.2%}" if planned else ""
            yield f"  {'KV tokens' if name == 'kv_tokens' else 'concurrency':<26}{planned:>12,.10g}{'':>24}{value:>12,.10g}{off:>12}"
