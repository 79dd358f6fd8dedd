"""An Ollama Modelfile, and the variables of its server. github.com/ollama/ollama: docs/modelfile.md, docs/faq.md, envconfig/config.go."""

from typing import Final

from vram.engines.args.base import Command, Flag, Launch, Variable, safe_model
from vram.errors import UsageError

KV_TYPES: Final = {"f16": "f16", "fp16": "f16", "float16": "f16", "q8_0": "q8_0", "q4_0": "q4_0"}


def command(launch: Launch) -> Command:
    """The Modelfile: its lines are the flags; what the server has to be told stands above them.

    Raises:
        UsageError: Ollama cannot do what was planned.
    """
    if launch.tp > 1 or launch.ep:
        raise UsageError("Ollama deals whole layers to GPUs: it has no --tp and no --ep", hint="leave them out; --gpu names the GPUs")
    # A model of its own store (vram.readers.ollama), as Ollama calls it.
    name = safe_model(launch).removeprefix("ollama:")
    notes: list[str] = []
    source = name
    if not launch.is_path and not launch.model.startswith("ollama:") and "/" in name and not name.startswith(("hf.co/", "huggingface.co/")):
        source = f"hf.co/{name}"
        if launch.quant and ":" not in name:
            source += f":{launch.quant}"
    elif launch.quant:
        notes.append(f"planned as {launch.quant}: name the file or tag that is stored so")
    if not launch.is_gguf:
        notes.append("planned from a config, not from a GGUF: name its GGUF in the line FROM")
    flags = [
        Flag(words=("FROM", source), reason=""),
        Flag(words=("PARAMETER", "num_ctx", str(launch.context_tokens)), reason="the planned length of a sequence; Ollama multiplies it by its slots"),
        Flag(words=("PARAMETER", "num_gpu", str(launch.gpu_layers if launch.gpu_layers is not None else 999)), reason="layers on GPUs; 999 for all"),
    ]
    if launch.ubatch is not None:
        flags.append(Flag(words=("PARAMETER", "num_batch", str(launch.ubatch)), reason="batch, as planned"))
    slots = max(launch.parallel or 1, launch.concurrency)
    environment = [Variable(name="OLLAMA_NUM_PARALLEL", value=str(slots), reason="slots, each with a cache of its own")]
    if launch.kv_dtype and launch.kv_dtype not in {"bf16", "bfloat16"}:
        kv = KV_TYPES.get(launch.kv_dtype)
        if kv is None:
            raise UsageError(f"Ollama has no KV cache of type {launch.kv_dtype!r}", hint="it has f16, q8_0 and q4_0: --kv-dtype q8_0")
        environment.append(
            Variable(name="OLLAMA_KV_CACHE_TYPE", value=kv, reason="the planned type of the KV cache; needs flash attention where it is quantised")
        )
    environment.append(Variable(name="OLLAMA_FLASH_ATTENTION", value="1" if launch.flash_attention else "0", reason="fused attention, as planned"))
    if launch.host_shared:
        why = "prompts of the past would take memory that the plan has not: it is the GPU's, too"
        environment.append(Variable(name="LLAMA_ARG_CACHE_RAM", value="0", reason=why))
    if launch.ctx_checkpoints is not None:
        why = "checkpoints of past prompts in main memory, a slot, as planned"
        environment.append(Variable(name="LLAMA_ARG_CTX_CHECKPOINTS", value=str(launch.ctx_checkpoints), reason=why))
    lines = ["# Save as Modelfile, then: ollama create planned -f Modelfile && ollama run planned"]
    lines += [f"# note: {n}" for n in notes]
    lines += [f"# {v.name}={v.value} for `ollama serve`: {v.reason}" for v in environment]
    for f in flags:
        lines += [f"# {f.reason}"] if f.reason else []
        lines.append(" ".join(f.words))
    return Command(program=(), flags=tuple(flags), environment=tuple(environment), notes=tuple(notes), text="\n".join(lines) + "\n")
