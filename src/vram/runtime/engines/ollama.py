"""Ollama's own server, with one model of its store: `ollama serve`, told by its environment, and one request that loads the model.

Read off github.com/ollama/ollama at v0.32.15: envconfig/config.go (variables), server/routes.go (a request without a prompt loads a model;
what a Modelfile sets goes before the variables), server/sched.go (slots that are allowed, the batch that is chosen), llm/llama_server.go (flags of
the llama-server beneath). Held against a stand-in alone: no Ollama has been started by this.
"""

import re
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Final

from vram.engines.args.base import Launch
from vram.engines.args.ollama import command
from vram.engines.ollama import LLAMA_SERVER_SINCE, version_of
from vram.errors import UsageError
from vram.readers.ollama import is_stored, parse_name
from vram.runtime.engines.base import Address, Installed, Line, Load, Program, answer_of, on_path
from vram.runtime.engines.llama_server import OUT_OF_MEMORY
from vram.settings import Settings, settings
from vram.sources.ollama import find_stored

if TYPE_CHECKING:
    from vram.planner.plan import Plan

BATCHES: Final = ((32_768, 2048, 0.60, 2 << 30), (4_096, 1024, 0.75, 768 << 20))
"""The batch that is chosen above so many tokens of context in all slots together, where the model takes no more than this share of what is free
and the batch's own surcharge fits into four fifths of it (`automaticGenerationBatch`)."""
FILL: Final = 0.80
BATCH: Final = 512
EMBEDDING_BATCH: Final = 2048
ONE_SLOT: Final = frozenset(
    {"mllama", "qwen3vl", "qwen3vlmoe", "qwen35", "qwen35moe", "qwen3next", "lfm2", "lfm2moe", "nemotron_h", "nemotron_h_moe", "nemotron_h_omni"}
)
"""Architectures that get one slot, whatever is asked for (`Scheduler.load`)."""


class Ollama(Program):
    """`ollama serve`: a model of Ollama's store, on GPUs, on the host, or on both."""

    name = "ollama"
    rules = "ollama"
    install = "https://ollama.com/download; then put ollama on PATH, or its path into VRAM_OLLAMA"
    ready_path = "/api/version"
    token_prompts = False
    on_host = True
    short: ClassVar = (("weights", re.compile(r"model requires more system memory")), *OUT_OF_MEMORY)
    # It ends its llama-server, and waits for that.
    grace_seconds = 15.0

    def find(self, found: Settings) -> Installed | None:
        """On PATH, or where VRAM_OLLAMA says."""
        path = found.ollama or on_path("ollama")
        if path is None or not path.is_file():
            return None
        # A server that runs tells its own version first.
        said = _version(str(path))
        version = re.search(r"client version is v?(\d[\w.+-]*)", said) or re.search(r"version is v?(\d[\w.+-]*)", said)
        return Installed(program=(str(path),), version=version[1] if version else "", where=str(path))

    def takes(self, launch: Launch) -> str:
        """Models of its store."""
        return "" if is_stored(launch.model) else "Ollama serves models of its own store: vram up ollama:NAME (ollama create NAME -f Modelfile takes a GGUF in)"

    def calls(self, model: str) -> str:
        """As its store calls it."""
        return parse_name(model).short if is_stored(model) else ""

    def context(self, model: str) -> int | None:
        """What its Modelfile sets."""
        return find_stored(model).parameters.num_ctx

    def loads(self, at: Address) -> tuple[Load, ...]:
        """A request without a prompt; models that only embed refuse the first."""
        return (Load(path="/api/generate", document={"model": at.name}), Load(path="/api/embed", document={"model": at.name, "input": []}))

    def batch(self, plan: "Plan", model: str) -> int | None:
        """What the Modelfile sets, else what Ollama chooses by the context and by what is free."""
        stored = find_stored(model)
        if stored.parameters.num_batch is not None:
            return stored.parameters.num_batch
        version = version_of(plan.settings.version)
        if version is not None and version < LLAMA_SERVER_SINCE:
            return None
        geometry, tokens = plan.model.geometry, plan.workload.context_tokens
        if geometry.encoder_only:
            return min(EMBEDDING_BATCH, tokens)
        context = min(tokens, geometry.max_context_tokens or tokens) * _slots(plan)
        # As Ollama predicts it: the file, and a 16-bit cache of uniform heads.
        head = geometry.hidden_size // max(geometry.attention_heads, 1)
        predicted = stored.manifest.weights.nbytes + 4 * len(plan.model.layers) * max(geometry.kv_heads, 1) * head * context
        # On the host nothing is free of a GPU, and no bound is looked at.
        free = 0 if plan.demand.gpu.vendor == "host" else sum(g.free_bytes for g in plan.fleet.gpus[: len(plan.gpus)])
        for least, batch, share, surcharge in BATCHES:
            if context > least and (not free or (predicted <= free * share and predicted + surcharge <= free * FILL)):
                return batch
        return BATCH

    def refuse(self, plan: "Plan", model: str) -> None:
        """What a Modelfile sets goes before the variables; some architectures get one slot.

        Raises:
            UsageError: it would not be as planned.
        """
        stored = find_stored(model)
        own, slots = stored.parameters, _slots(plan)
        if own.num_ctx is not None and own.num_ctx != plan.workload.context_tokens:
            raise UsageError(
                f"the Modelfile of {stored.name} sets num_ctx {own.num_ctx}: Ollama starts it with that, and not with {plan.workload.context_tokens}",
                hint=f"--context {own.num_ctx}, or a model without it: ollama create",
            )
        # In main memory no layer on GPUs is what is planned.
        planned = {-1, 999, 0} if plan.demand.gpu.vendor == "host" else {-1, 999}
        if own.num_gpu is not None and own.num_gpu not in planned:
            raise UsageError(
                f"the Modelfile of {stored.name} sets num_gpu {own.num_gpu}, which vram up does not plan for",
                hint="a model without it: ollama create; --engine llama-server runs the same file",
            )
        if slots > 1 and (plan.model.architecture in ONE_SLOT or plan.model.geometry.encoder_only):
            raise UsageError(f"Ollama answers one request at a time with {plan.model.architecture}", hint="--concurrency 1, or --engine llama-server")

    def line(self, launch: Launch, here: Installed, at: Address) -> Line:
        """The plan as variables of its server."""
        made = command(launch)
        old = (version := version_of(here.version)) is not None and version < LLAMA_SERVER_SINCE
        variables = {
            "OLLAMA_HOST": f"{at.host}:{at.port}",
            "OLLAMA_MODELS": str(settings().ollama_store.absolute()),
            "OLLAMA_CONTEXT_LENGTH": str(launch.context_tokens),
            "OLLAMA_KV_CACHE_TYPE": "f16",
            **{v.name: v.value for v in made.environment},
            "OLLAMA_KEEP_ALIVE": "-1",
            "OLLAMA_MAX_LOADED_MODELS": "1",
            # It would pick the one card that it thinks best; the plan deals layers to all that it may see.
            "OLLAMA_SCHED_SPREAD": "1" if launch.gpus > 1 else "0",
            "OLLAMA_GPU_OVERHEAD": "0",
            # Another server may be fetching into the same store: what has no manifest yet stays.
            "OLLAMA_NOPRUNE": "1",
            "OLLAMA_NO_CLOUD": "1",
        }
        if not old:
            # The plan is made: nothing is to be fitted anew behind its back.
            variables["LLAMA_ARG_FIT"] = "off"
            if launch.host_shared:
                # Prompts of the past would take memory that the plan has not.
                variables["LLAMA_ARG_CACHE_RAM"] = "0"
            if launch.ctx_checkpoints is not None:
                variables["LLAMA_ARG_CTX_CHECKPOINTS"] = str(launch.ctx_checkpoints)
        if launch.vendor == "host":
            variables["OLLAMA_LLM_LIBRARY"] = "cpu"
        return Line(words=(*here.program, "serve"), variables=variables, notes=made.notes)


def _slots(plan: "Plan") -> int:
    return max(plan.settings.parallel or 1, plan.workload.concurrency)


@lru_cache(maxsize=8)
def _version(program: str) -> str:
    return answer_of((program, "--version"))
