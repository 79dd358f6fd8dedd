"""SGLang's own server."""

import re
import sys
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Final

from vram.engines.args.base import Launch
from vram.engines.args.sglang import command
from vram.runtime.engines.base import Address, Installed, Line, Program, answer_of, words_of
from vram.settings import Settings

OUT_OF_MEMORY: Final = (
    ("kv_cache", re.compile(r"Not enough memory\. Please try (?:to increase|increasing) --mem-fraction-static|KV cache pool (?:runs out|is full)")),
    ("cuda_graphs", re.compile(r"Capture (?:cuda|CUDA) graph failed")),
    ("weights", re.compile(r"out of memory.*load|load.*out of memory", re.IGNORECASE)),
    ("", re.compile(r"OutOfMemoryError|out of memory", re.IGNORECASE)),
)
"""sglang/srt/model_executor/model_runner.py, cuda_graph_runner.py."""
_VERSION: Final = "import importlib.metadata as m; print('version', m.version('sglang'))"


class Sglang(Program):
    """`python -m sglang.launch_server`: safetensors, on GPUs."""

    name = "sglang"
    rules = "sglang"
    install = "pip install sglang, in an environment of its own; then put that environment's Python into VRAM_SGLANG_PYTHON"
    short: ClassVar = OUT_OF_MEMORY
    quantizes: ClassVar = frozenset({"fp8"})
    grace_seconds = 20.0

    def find(self, found: Settings) -> Installed | None:
        """In the environment of the Python that VRAM_SGLANG_PYTHON names, or in ours."""
        python = found.sglang_python or Path(sys.executable)
        version = re.search(r"version ([\w.+]+)", _version(str(python)))
        return Installed(program=(str(python), "-m", "sglang.launch_server"), version=version[1], where=str(python)) if version else None

    def takes(self, launch: Launch) -> str:
        """Hub repositories and folders."""
        return "SGLang is not started with GGUF files" if launch.is_gguf or launch.model.lower().endswith(".gguf") else ""

    def line(self, launch: Launch, here: Installed, at: Address) -> Line:
        """As `vram args` writes it, and what a server needs beside it."""
        made = command(launch)
        words = (*words_of(made, here.program), "--host", at.host, "--port", str(at.port), "--served-model-name", at.name, "--enable-metrics")
        return Line(words=words, variables={"NO_COLOR": "1"}, notes=made.notes)


@lru_cache(maxsize=8)
def _version(python: str) -> str:
    return answer_of((python, "-c", _VERSION))
