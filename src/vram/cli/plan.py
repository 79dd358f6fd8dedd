"""`vram plan MODEL`: how many bytes a model takes on which GPU, part by part, and whether it fits."""

from typing import TYPE_CHECKING

import click

from vram.cli.types import BYTES, TOKENS, last_fleet, shares
from vram.errors import ExitCode, VramError

if TYPE_CHECKING:
    from vram.costs.cost import Cost
    from vram.planner.plan import Plan


@click.command(name="plan", short_help="How many bytes a model takes on which GPU.")
@click.argument("model")
@click.option(
    "--gpu",
    "gpu",
    metavar="NAME",
    multiple=True,
    callback=last_fleet,
    help='GPUs to plan for, as you would say them: "4090", "2x H100 SXM 80GB", "a100-40". This machine\'s when not given.',
)
@click.option(
    "--context",
    "context_tokens",
    type=TOKENS,
    help="Tokens of one sequence, prompt and output together (32768, 32k). Default: 8192, or the model's limit if that is less; for ollama its own.",
)
@click.option("--concurrency", type=click.IntRange(min=1), default=1, show_default=True, help="Sequences held at the same time.")
@click.option("--quant", metavar="NAME", help="Plan the model as if its weights were stored so: fp8, int8, awq, nvfp4, Q4_K_M ...")
@click.option("--kv-dtype", metavar="NAME", help="Type of the KV cache: bf16, fp8, q8_0 ... Default: the model's own.")
@click.option("--engine", metavar="NAME[@VERSION]", default="generic", show_default=True, help="Whose memory rules to use.")
@click.option("--tp", type=click.IntRange(min=1), help="Tensor-parallel ranks. Default: as many of the GPUs as divide the attention heads.")
@click.option("--pp", type=click.IntRange(min=1), help="Pipeline stages. Default: what tensor parallelism leaves over.")
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
@click.option("--kv-pool-bytes", type=BYTES, help="Bytes of the KV pool per GPU when they are known (16GiB).")
@click.option("--ubatch", type=click.IntRange(min=1), help="llama.cpp's physical batch.")
@click.option("--parallel", type=click.IntRange(min=1), help="llama.cpp's slots.")
@click.option("--flash-attention", type=click.Choice(["on", "off"]), default="on", show_default=True, help="Whether attention is fused.")
@click.option("--gpu-layers", type=click.IntRange(min=0), help="llama.cpp's layers on GPUs, the output as the last one (-ngl). Default: all.")
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
@click.option("--headroom", type=click.FloatRange(0, 10), default=0.20, show_default=True, help="Share of the weights to keep free above them.")
@click.option("--revision", metavar="NAME", help="Branch, tag or commit of a hub repository.")
@click.option("--offline", is_flag=True, help="Touch no network: local files, the hub's cache and the built-in catalogue.")
@click.option("--html", "html_file", metavar="FILE", type=click.Path(dir_okay=False, writable=True), help="Write the plan as a page too.")
@click.option("--svg", "svg_file", metavar="FILE", type=click.Path(dir_okay=False, writable=True), help="Write the picture of what lies on each GPU.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, schema vram.plan/1.")
@click.option("--quiet", "-q", is_flag=True, help="Print the verdict only.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    model: str,
    gpu: str | None,
    context_tokens: int | None,
    concurrency: int,
    quant: str | None,
    kv_dtype: str | None,
    engine: str,
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
    headroom: float,
    revision: str | None,
    html_file: str | None,
    svg_file: str | None,
    *,
    ep: bool,
    kv_unified: bool | None,
    no_kv_offload: bool,
    swa_full: bool,
    enforce_eager: bool,
    prefix_caching: bool | None,
    offline: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """How many bytes MODEL takes on which GPU, part by part, and whether it fits.

    MODEL is a local folder or file (config.json with or without safetensors, *.safetensors, *.gguf), a hub id (org/name), a model of
    Ollama's store (ollama:llama3.2:3b), or a name of the built-in catalogue (vram models). Only headers are read, never weights.

    \b
    vram plan Qwen/Qwen3-8B --gpu "RTX 4090" --context 32k
    vram plan ./model.gguf --gpu "2x 3090" --concurrency 4 --kv-dtype q8_0
    """  # noqa: D301  (click's own mark, a real backspace, keeps the lines below it as they are)
    from vram.api import plan
    from vram.cli.output import progress

    with progress(f"reading {model}") as report:
        made = plan(
            model,
            gpu=gpu,
            context_tokens=context_tokens,
            concurrency=concurrency,
            quant=quant,
            kv_dtype=kv_dtype,
            engine=engine,
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
            headroom=headroom,
            revision=revision,
            offline=offline or None,
            progress=report,
        )
    if html_file or svg_file:
        _write(made, html_file, svg_file)
    if as_json:
        from vram.cli.output import print_json
        from vram.planner.document import plan_document

        print_json(plan_document(made, cost=_cost(made)))
    elif quiet:
        click.echo(made.verdict.value)
    else:
        from vram.cli.output import print_styled, terminal_width
        from vram.cli.render.plan import picture
        from vram.cli.render.price import price_line

        print_styled(picture(made, terminal_width(), price=price_line(made)))
    ctx.exit(ExitCode.DOES_NOT_FIT if made.verdict == "does_not_fit" else ExitCode.OK)


def _write(made: "Plan", html_file: str | None, svg_file: str | None) -> None:
    from pathlib import Path

    from vram.cli.render.plan_page import chart, report
    from vram.cli.render.price import price_line

    if html_file:
        Path(html_file).write_text(report(made, price=price_line(made)), encoding="utf-8")
    if svg_file:
        Path(svg_file).write_text(chart(made), encoding="utf-8")


def _cost(made: "Plan") -> "Cost | None":
    """What it costs; a price file that can't be read is said, and no reason to withhold a plan."""
    from vram.pricing import plan_cost

    try:
        return plan_cost(made)
    except VramError as e:
        click.echo(f"note: {e.message}; {e.hint}", err=True)
        return None
