"""`vram args MODEL`: the launch command that makes a plan true, each flag with its reason."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vram.cli.types import BYTES, TOKENS, last_fleet, shares
from vram.engines.args.registry import TARGETS
from vram.errors import ExitCode

if TYPE_CHECKING:
    from vram.engines.args.base import Beside


@click.command(name="args", short_help="The launch command that makes a plan true.")
@click.argument("model")
@click.option("--target", metavar="NAME[@VERSION]", default="vllm", show_default=True, help=f"What to write: {', '.join(TARGETS)}.")
@click.option(
    "--gpu", "gpu", metavar="NAME", multiple=True, callback=last_fleet, help='GPUs to plan for: "4090", "2x H100 SXM 80GB". This machine\'s when not given.'
)
@click.option("--context", "context_tokens", type=TOKENS, help="Tokens of one sequence, prompt and output together (32768, 32k).")
@click.option("--concurrency", type=click.IntRange(min=1), default=1, show_default=True, help="Sequences held at the same time.")
@click.option("--quant", metavar="NAME", help="Weights stored so: fp8, awq, Q4_K_M ...")
@click.option("--kv-dtype", metavar="NAME", help="Type of the KV cache: bf16, fp8, q8_0 ... Default: the model's own.")
@click.option("--tp", type=click.IntRange(min=1), help="Tensor-parallel ranks. Default: all GPUs.")
@click.option("--pp", type=click.IntRange(min=1), help="Pipeline stages.")
@click.option("--ep", is_flag=True, help="Deal whole experts to the ranks instead of slices of each.")
@click.option(
    "--dp",
    type=click.IntRange(min=1),
    help="Copies of attention and its caches, each with its own sequences, that share the experts (data-parallel attention).",
)
@click.option("--gpu-memory-utilization", type=click.FloatRange(0, 1, min_open=True), help="Share of each GPU's memory that may be used.")
@click.option("--max-num-seqs", type=click.IntRange(min=1), help="Most sequences in one batch.")
@click.option("--max-batched-tokens", type=TOKENS, help="Most tokens in one step.")
@click.option("--block-size", type=click.IntRange(min=1), help="Tokens of one KV block.")
@click.option("--kv-pool-bytes", type=BYTES, help="Bytes of the KV pool per GPU (16GiB).")
@click.option("--ubatch", type=click.IntRange(min=1), help="llama.cpp's physical batch.")
@click.option("--parallel", type=click.IntRange(min=1), help="llama.cpp's slots.")
@click.option("--flash-attention", type=click.Choice(["on", "off"]), default="on", show_default=True, help="Whether attention is fused.")
@click.option("--gpu-layers", type=click.IntRange(min=0), help="llama.cpp's layers on GPUs. Default: all.")
@click.option("--tensor-split", metavar="A,B", help="llama.cpp's shares of the GPUs (-ts 3,1). Default: their free memory.")
@click.option(
    "--kv-unified/--no-kv-unified", "kv_unified", default=None, help="llama.cpp's slots share one cache, or have one each. Default: as its build does."
)
@click.option("--no-kv-offload", is_flag=True, help="llama.cpp's caches stay on the host.")
@click.option("--enforce-eager", is_flag=True, help="No CUDA graphs are captured (vLLM; SGLang's --disable-cuda-graph).")
@click.option("--prefix-caching/--no-prefix-caching", default=None, help="vLLM keeps equal prefixes, or does not. Default: as its version does.")
@click.option("--swa-full", is_flag=True, help="llama.cpp's windowed layers keep every token.")
@click.option(
    "--ctx-checkpoints",
    type=click.IntRange(min=0),
    help="Checkpoints of past prompts that each of llama-server's slots keeps. Default: its own number; where a GPU shares main memory one, and commands say what fits.",
)
@click.option("--mmproj", metavar="FILE", help="GGUF file of the tower for images or sound that llama.cpp loads beside the model.")
@click.option("--draft", metavar="MODEL", help="What drafts tokens for the model to verify: mtp for its own multi-token-prediction layers, or a smaller model.")
@click.option("--draft-tokens", type=click.IntRange(min=1), help="Tokens drafted at a time. Default: the engine's.")
@click.option("--draft-gpu-layers", type=click.IntRange(min=0), help="The draft model's layers on GPUs in llama.cpp (-ngld). Default: all.")
@click.option(
    "--lora", metavar="FILE", multiple=True, help="A LoRA adapter that serves: a rank, a GGUF file, or a folder with an adapter_config.json. Once for each."
)
@click.option("--offline", is_flag=True, help="Touch no network: local files, the hub's cache and the built-in catalogue.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, schema vram.args/1.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    model: str,
    target: str,
    gpu: str | None,
    context_tokens: int | None,
    concurrency: int,
    quant: str | None,
    kv_dtype: str | None,
    tp: int | None,
    pp: int | None,
    dp: int | None,
    gpu_memory_utilization: float | None,
    max_num_seqs: int | None,
    max_batched_tokens: int | None,
    block_size: int | None,
    kv_pool_bytes: int | None,
    ubatch: int | None,
    parallel: int | None,
    flash_attention: str,
    gpu_layers: int | None,
    tensor_split: str | None,
    ctx_checkpoints: int | None,
    mmproj: str | None,
    draft: str | None,
    draft_tokens: int | None,
    draft_gpu_layers: int | None,
    lora: tuple[str, ...],
    *,
    ep: bool,
    kv_unified: bool | None,
    no_kv_offload: bool,
    swa_full: bool,
    enforce_eager: bool,
    prefix_caching: bool | None,
    offline: bool,
    as_json: bool,
) -> None:
    """The command that starts an engine as it was planned: each flag with its reason as a comment above it.

    Planned is with the target's own memory rules (TGI: those of no engine in particular). The command goes to stdout; the
    verdict, where it is not `fits`, to stderr.

    \b
    vram args Qwen/Qwen3-8B --gpu "RTX 4090" --context 32k
    vram args ./model.gguf --target llama.cpp --gpu "2x 3090" --concurrency 4 --kv-dtype q8_0
    """  # noqa: D301  (click's own mark, a real backspace, keeps the lines below it as they are)
    from vram.api import plan
    from vram.cli.output import progress
    from vram.engines.args.base import Beside
    from vram.engines.args.registry import command_for, engine_of
    from vram.planner.launch import launch_of

    name, _, version = target.partition("@")
    name = name.lower().replace("_", "-")
    name = {"llama-cpp": "llama.cpp", "llamacpp": "llama.cpp", "llama-server": "llama.cpp", "docker-compose": "compose"}.get(name, name)
    engine = engine_of(name)
    with progress(f"reading {model}") as report:
        made = plan(
            model,
            gpu=gpu,
            context_tokens=context_tokens,
            concurrency=concurrency,
            quant=quant,
            kv_dtype=kv_dtype,
            engine=f"{engine}@{version}" if version and engine != "generic" else engine,
            tp=tp,
            pp=pp,
            ep=ep,
            dp=dp,
            gpu_memory_utilization=gpu_memory_utilization,
            max_num_seqs=max_num_seqs,
            max_batched_tokens=max_batched_tokens,
            block_size=block_size,
            kv_pool_bytes=kv_pool_bytes,
            ubatch=ubatch,
            parallel=parallel,
            flash_attention=flash_attention == "on",
            gpu_layers=gpu_layers,
            tensor_split=shares(tensor_split),
            kv_unified=kv_unified,
            kv_offload=not no_kv_offload,
            swa_full=swa_full,
            ctx_checkpoints=ctx_checkpoints,
            enforce_eager=enforce_eager,
            prefix_caching=prefix_caching,
            mmproj=mmproj,
            draft=draft,
            draft_tokens=draft_tokens,
            draft_gpu_layers=draft_gpu_layers,
            lora=lora,
            offline=offline or None,
            progress=report,
        )
    canonical = ""
    if quant:
        from vram.model.quantization.named import canonical as canonical_name

        canonical = canonical_name(quant)
    path = _is_path(model)
    beside = Beside(
        draft="" if draft is None or draft.lower() == "mtp" else _as_found(draft, path=_is_path(draft)),
        draft_is_path=draft is not None and _is_path(draft),
        adapters=tuple(a for a in lora if _is_path(a)),
        mmproj=mmproj or "",
    )
    given = _as_found(model, path=path)
    if model.lower().startswith("ollama:") and name != "ollama":
        given, path, beside = _of_store(model, beside)
    launch = launch_of(made, model=given, quant=canonical, kv_dtype=kv_dtype or "", is_path=path, beside=beside)
    written = command_for(name, launch)
    if as_json:
        from vram.cli.output import print_json

        print_json(
            {
                "schema": "vram.args/1",
                "target": name,
                "engine": {"name": made.engine, "version": made.settings.version or None},
                "model": model,
                "verdict": made.verdict.value,
                "program": list(written.program),
                "flags": [{"words": list(f.words), "reason": f.reason} for f in written.flags],
                "environment": [{"name": v.name, "value": v.value, "reason": v.reason} for v in written.environment],
                "notes": list(written.notes),
                "text": written.text,
            }
        )
    else:
        click.echo(written.text, nl=False)
        if made.verdict != "fits":
            click.echo(f"warning: {made.verdict.value.replace('_', ' ')}: vram plan says what would mend it", err=True)
    ctx.exit(ExitCode.DOES_NOT_FIT if made.verdict == "does_not_fit" else ExitCode.OK)


def _of_store(model: str, beside: "Beside") -> "tuple[str, bool, Beside]":
    """The files of a model of Ollama's store, for an engine that has no names for them."""
    from vram.sources.ollama import find_stored

    stored = find_stored(model)
    tower = beside.mmproj or (str(stored.projector) if stored.projector is not None else "")
    return str(stored.weights), True, replace(beside, adapters=(*map(str, stored.adapters), *beside.adapters), mmproj=tower)


def _is_path(model: str) -> bool:
    try:
        return Path(model).expanduser().exists()
    except (OSError, RuntimeError, ValueError):
        return False


def _as_found(model: str, *, path: bool) -> str:
    """As an engine finds it: paths without `~`, short names of the catalogue as the hub's."""
    if path:
        return str(Path(model).expanduser())
    if "/" in model:
        return model
    from vram.catalog import find

    known = find(model)
    return known.id if known is not None else model
