"""llama-cpp-python's server (`python -m llama_cpp.server`): llama.cpp as a Python package, one request at a time."""

import re
import sys
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Final

from vram.engines.args.base import Launch, safe_model
from vram.engines.args.llama_cpp import kv_types
from vram.runtime.engines.base import Address, Installed, Line, Program, answer_of
from vram.runtime.engines.llama_server import OUT_OF_MEMORY
from vram.settings import Settings

_VERSION: Final = "import importlib.metadata as m; print('version', m.version('llama_cpp_python')); import starlette_context, uvicorn; print('server')"
# Its server refuses requests whose X-Request-Id is no UUID; a gateway's and a client's are what they are.
_START: Final = (
    "import functools, runpy, starlette_context.plugins as p; "
    "p.RequestIdPlugin = functools.partial(p.RequestIdPlugin, validate=False); "
    "runpy.run_module('llama_cpp.server', run_name='__main__')"
)
# ggml.h, enum ggml_type: its server takes numbers.
_TYPES: Final = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "iq4_nl": 20, "bf16": 30}


class LlamaCppPython(Program):
    """llama_cpp.server: a GGUF, on GPUs, on the host, or on both; a single slot."""

    name = "llama_cpp.server"
    rules = "llama.cpp"
    install = "pip install 'llama-cpp-python[server]' (it is compiled: some minutes), or name a Python that has it in VRAM_LLAMA_CPP_PYTHON"
    ready_path = "/v1/models"
    token_prompts = False
    on_host = True
    deals_layers = True
    slots = 1
    ctx_checkpoints = 0
    short: ClassVar = OUT_OF_MEMORY
    grace_seconds = 3.0

    def find(self, found: Settings) -> Installed | None:
        """In the environment of the Python that VRAM_LLAMA_CPP_PYTHON names, or in ours."""
        python = found.llama_cpp_python or Path(sys.executable)
        said = _version(str(python))
        if not re.search(r"^server$", said, re.MULTILINE):
            return None
        # Its version is that of the binding, and no build of llama.cpp: the newest rules hold.
        release = re.search(r"^version (\S+)$", said, re.MULTILINE)
        return Installed(program=(str(python), "-c", _START), version="", where=str(python), release=release[1] if release else "")

    def takes(self, launch: Launch) -> str:
        """GGUF files of this machine, one request at a time."""
        if not launch.is_path or not launch.is_gguf:
            return "llama_cpp.server loads GGUF files of this machine only"
        return "llama_cpp.server answers one request at a time" if launch.concurrency > 1 or (launch.parallel or 1) > 1 else ""

    def line(self, launch: Launch, here: Installed, at: Address) -> Line:
        """The plan as its settings (llama_cpp/server/settings.py)."""
        layers = 0 if launch.vendor == "host" else launch.gpu_layers if launch.gpu_layers is not None else -1
        given: dict[str, object] = {
            "model": safe_model(launch),
            "n_ctx": launch.context_tokens,
            "n_gpu_layers": layers,
            "flash_attn": str(launch.flash_attention).lower(),
            # A second request waits for the first one, instead of ending it.
            "interrupt_requests": "false",
            "host": at.host,
            "port": at.port,
            "model_alias": at.name,
        }
        if launch.ubatch is not None:
            given["n_ubatch"] = launch.ubatch
        if launch.max_batched_tokens is not None:
            given["n_batch"] = launch.max_batched_tokens
        elif launch.ubatch is None:
            # Its own default is 512 for both; the plan's is llama.cpp's.
            given["n_batch"] = 2048
        if launch.kv_dtype:
            key, value = kv_types(launch.kv_dtype)
            given |= {"type_k": _TYPES[key], "type_v": _TYPES[value]}
        if launch.tensor_split:
            given["tensor_split"] = " ".join(f"{s:.6g}" for s in launch.tensor_split)
        words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
        return Line(words=(*here.program, *words), notes=())


@lru_cache(maxsize=8)
def _version(python: str) -> str:
    return answer_of((python, "-c", _VERSION))
