"""One model planned as an engine would run it here: by the engine's rules, with the settings that were asked for or that it takes by itself."""

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from vram.engines.llama_cpp_checkpoints import MOST, OF_ONE_REQUEST
from vram.engines.supports import method_of
from vram.errors import UsageError
from vram.hardware.fleet import Fleet
from vram.model.quantization.names import GGUF_NAMES
from vram.planner.plan import Plan
from vram.planner.reserve import kept_that_fit, later_bytes
from vram.readers.ollama import is_stored
from vram.runtime.engines.base import Installed, Program
from vram.runtime.engines.registry import PROGRAMS, program
from vram.runtime.wanted import Wanted, is_path
from vram.sources.ollama import adapters_of

if TYPE_CHECKING:
    from vram.model.model import Model

LEAST_POOL: Final = 64 * 2**20


def plan_one(wanted: Wanted, model: "Model", fleet: Fleet, engine: Program, here: Installed | None) -> Plan:
    """The plan of one model on those GPUs by its engine's rules.

    Raises:
        UsageError: a number that makes no sense, a setting that would be without effect.
    """
    _refuse_layers(wanted, fleet, engine)
    _refuse_quant(wanted, model, engine)
    made = _planned(wanted, model, fleet, engine, here, wanted.kv_pool_bytes)
    gpu = made.gpus[0]
    if wanted.kv_pool_bytes is None and gpu.pool is not None and fleet.gpus[0].gpu.vendor == "host":
        # In main memory no engine should take all that is left: what the workload needs, and a quarter more for its blocks.
        pool = max(gpu.kv_needed_bytes * 5 // 4, LEAST_POOL)
        made = _planned(wanted, model, fleet, engine, here, pool)
    batch = engine.batch(made, wanted.model)
    if batch is not None and wanted.ubatch not in {None, batch}:
        raise UsageError(f"{engine.name} takes a batch of {batch} by itself with {wanted.name}, and no other", hint="leave --ubatch out")
    if batch is not None and made.settings.ubatch != batch:
        made = _planned(replace(wanted, ubatch=batch), model, fleet, engine, here, wanted.kv_pool_bytes)
    if wanted.ctx_checkpoints is None and engine.ctx_checkpoints is None and later_bytes(made):
        made = _with_checkpoints(wanted, model, fleet, engine, here, made)
    engine.refuse(made, wanted.model)
    return made


def _with_checkpoints(wanted: Wanted, model: "Model", fleet: Fleet, engine: Program, here: Installed | None, made: Plan) -> Plan:
    """With as many checkpoints of past prompts as there is room for beside the rest; beside other models no more than one request leaves."""
    few = kept_that_fit(made, MOST if wanted.alone else OF_ONE_REQUEST)
    return _planned(replace(wanted, ctx_checkpoints=few, ubatch=made.settings.ubatch), model, fleet, engine, here, wanted.kv_pool_bytes)


def _refuse_quant(wanted: Wanted, model: "Model", engine: Program) -> None:
    """Weights are what the files hold: a plan for others would be true of nothing that is started."""
    if wanted.quant is None:
        return
    from vram.model.quantization.named import canonical  # noqa: PLC0415  (only where it is asked for)

    asked = canonical(wanted.quant)
    same = asked == model.quantization if model.gguf else bool(model.quantization) and method_of(asked) == method_of(model.quantization)
    if same or (not model.gguf and not model.quantization and asked in engine.quantizes):
        return
    if engine.rules == "llama.cpp" and not is_path(wanted.model) and not is_stored(wanted.model) and asked in GGUF_NAMES:
        # The file of that name in a hub repository is loaded.
        return
    online = f"; while it loads 16-bit weights it makes {' and '.join(sorted(engine.quantizes))} of them" if engine.quantizes else ""
    raise UsageError(
        f"{wanted.name} is stored as {model.quantization or model.dtype.name}, and {engine.name} loads what is stored: not {asked}",
        hint=f"leave --quant out, and name a file or repository that is stored so in place of the model{online}",
    )


def _refuse_layers(wanted: Wanted, fleet: Fleet, engine: Program) -> None:
    """Which layers lie where is for engines that are told, and for GPUs; who deals them splits none."""
    if engine.rules in {"llama.cpp", "ollama"} and wanted.tp is not None and wanted.tp > 1:
        raise UsageError(f"{engine.name} deals whole layers to GPUs, it does not split them over --tp {wanted.tp}", hint="leave --tp out: --gpu names the GPUs")
    given = [flag for flag, there in (("--gpu-layers", wanted.gpu_layers is not None), ("--tensor-split", bool(wanted.tensor_split))) if there]
    if not given:
        return
    if not engine.deals_layers:
        able = " and ".join(p.name for p in map(program, PROGRAMS) if p.deals_layers)
        raise UsageError(f"{engine.name} takes no {given[0]}: it deals layers to GPUs itself", hint=f"leave it out; {able} take it, with GGUF files")
    # No layer on GPUs is what a plan for main memory has anyway.
    if fleet.gpus[0].gpu.vendor == "host" and (wanted.gpu_layers or wanted.tensor_split):
        flag = "--gpu-layers" if wanted.gpu_layers else "--tensor-split"
        raise UsageError(f"{flag} has no effect without a GPU: all layers lie in main memory", hint="leave it out, or name GPUs of this machine with --gpu")


def _planned(wanted: Wanted, model: "Model", fleet: Fleet, engine: Program, here: Installed | None, pool: int | None) -> Plan:
    from vram.api import plan  # noqa: PLC0415  (start-up)

    version = here.version if here is not None else ""
    context = wanted.context_tokens if wanted.context_tokens is not None else engine.context(wanted.model)
    return plan(
        model,
        gpu=fleet,
        engine=f"{engine.rules}@{version}" if version else engine.rules,
        context_tokens=context,
        concurrency=wanted.concurrency,
        quant=wanted.quant,
        kv_dtype=wanted.kv_dtype,
        tp=wanted.tp,
        pp=wanted.pp,
        ep=wanted.ep,
        kv_unified=wanted.kv_unified,
        ubatch=wanted.ubatch,
        gpu_layers=wanted.gpu_layers,
        tensor_split=wanted.tensor_split,
        parallel=engine.slots or wanted.parallel,
        gpu_memory_utilization=wanted.gpu_memory_utilization,
        max_num_seqs=wanted.max_num_seqs,
        max_batched_tokens=wanted.max_batched_tokens,
        block_size=wanted.block_size,
        kv_pool_bytes=pool,
        ctx_checkpoints=engine.ctx_checkpoints if engine.ctx_checkpoints is not None else wanted.ctx_checkpoints,
        enforce_eager=wanted.enforce_eager,
        lora=adapters_of(wanted.model),
    )
