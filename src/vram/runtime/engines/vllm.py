"""vLLM's own server."""

import re
import sys
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Final

from vram.engines.args.base import Launch
from vram.engines.args.vllm import ONLINE, command
from vram.engines.vllm.release import cpu_release
from vram.errors import UsageError
from vram.hardware.probe.cpu import instruction_sets
from vram.runtime.engines.base import Address, Installed, Line, Program, answer_of, on_path, words_of
from vram.settings import Settings

OUT_OF_MEMORY: Final = (
    ("weights", re.compile(r"Failed to load model - not enough GPU memory")),
    ("kv_cache", re.compile(r"No available memory for the cache blocks|KV cache is needed, which is larger|tokens that can be stored in KV cache")),
    ("free", re.compile(r"is less than desired GPU memory utilization")),
    ("activations", re.compile(r"out of memory occurred when warming up sampler|out of memory.*profil", re.IGNORECASE)),
    ("cuda_graphs", re.compile(r"out of memory.*captur", re.IGNORECASE)),
    ("", re.compile(r"OutOfMemoryError|(?:CUDA|HIP) out of memory|out of memory", re.IGNORECASE)),
)
"""vllm/v1/worker/gpu_model_runner.py (weights, sampler), v1/core/kv_cache_utils.py, v1/worker/utils.py (free memory)."""
_VERSION: Final = "import importlib.metadata as m; print('version', m.version('vllm'))"


class Vllm(Program):
    """`vllm serve`: safetensors, on GPUs; on the host where it was built for CPUs."""

    name = "vllm"
    rules = "vllm"
    install = "pip install vllm, in an environment of its own; then put vllm on PATH, or that environment's Python into VRAM_VLLM_PYTHON"
    on_host = True
    short: ClassVar = OUT_OF_MEMORY
    quantizes: ClassVar = frozenset(ONLINE)
    grace_seconds = 20.0

    def find(self, found: Settings) -> Installed | None:
        """On PATH, or in the environment whose Python VRAM_VLLM_PYTHON names."""
        script = None if found.vllm_python else on_path("vllm")
        python = found.vllm_python or (_python_of(script) if script is not None else None)
        if python is None or not python.is_file():
            return None
        version = re.search(r"version ([\w.+]+)", _version(str(python)))
        if version is None:
            return None
        beside = python.with_name("vllm")
        program = (str(script or beside),) if script is not None or beside.is_file() else (str(python), "-m", "vllm.entrypoints.cli.main")
        own = version[1]
        sets = instruction_sets() if "+cpu" in own else None
        return Installed(program=program, version=own if sets is None else cpu_release(own, sets), where=program[0], release=own)

    def runs_on_host(self, here: Installed) -> bool:
        """Only where it was built for CPUs."""
        return "+cpu" in here.version

    def takes(self, launch: Launch) -> str:
        """Hub repositories and folders; GGUF files only by way of a plugin that is not asked for here."""
        return "vLLM is not started with GGUF files" if launch.is_gguf or launch.model.lower().endswith(".gguf") else ""

    def line(self, launch: Launch, here: Installed, at: Address) -> Line:
        """As `vram args` writes it, and what a server needs beside it."""
        made = command(launch)
        if launch.kv_dtype.startswith("fp8") and here.version.endswith(".plain"):
            raise UsageError("vLLM keeps keys and values in FP8 only on processors with AVX-512", hint="leave --kv-dtype out: bfloat16 runs on all")
        words = [*words_of(made, (*here.program, "serve", made.program[2]))]
        if launch.vendor == "host" and "--gpu-memory-utilization" in words:
            # On a CPU the pool's bytes are given; a share of main memory would be asked for beside them.
            place = words.index("--gpu-memory-utilization")
            del words[place : place + 2]
        words += ["--host", at.host, "--port", str(at.port), "--served-model-name", at.name]
        return Line(words=tuple(words), variables={"NO_COLOR": "1"}, notes=made.notes)


def _python_of(script: Path) -> Path | None:
    """The Python of an installed script: its first line names it."""
    try:
        with script.open("rb") as file:
            first = file.readline(512).decode("utf-8", "replace").strip()
    except OSError:
        return None
    words = first.removeprefix("#!").split()
    if not first.startswith("#!") or not words:
        return None
    return Path(words[0]) if "python" in words[0] else Path(sys.executable)


@lru_cache(maxsize=8)
def _version(python: str) -> str:
    # Asked of the metadata: `vllm --version` imports torch, which takes ten seconds and more.
    return answer_of((python, "-c", _VERSION))
