"""llama.cpp's own server."""

import re
from functools import lru_cache
from typing import ClassVar, Final

from vram.engines.args.base import Launch
from vram.engines.args.llama_cpp import command
from vram.runtime.engines.base import Address, Installed, Line, Program, answer_of, on_path, words_of
from vram.settings import Settings

OUT_OF_MEMORY: Final = (
    (
        "kv_cache",
        re.compile(
            r"failed to allocate buffer for (?:kv|rs) cache|llama_kv_cache.*(?:failed|unable)|failed to initialize the (?:context|memory).*cache", re.IGNORECASE
        ),
    ),
    ("activations", re.compile(r"failed to allocate compute|graph_reserve: failed|unable to create context|failed to reserve", re.IGNORECASE)),
    ("weights", re.compile(r"unable to allocate \S+ buffer|load_tensors.*(?:failed|unable)", re.IGNORECASE)),
    ("", re.compile(r"out of memory|ErrorOutOfDeviceMemory|failed to allocate \S+ buffer|bad_alloc|cannot allocate memory", re.IGNORECASE)),
)
"""src/llama-kv-cache.cpp, src/llama-context.cpp, src/llama-model.cpp, ggml backends' alloc_buffer."""


class LlamaServer(Program):
    """llama-server: a GGUF, on GPUs, on the host, or on both."""

    name = "llama-server"
    rules = "llama.cpp"
    install = "brew install llama.cpp, or a release of github.com/ggml-org/llama.cpp; then put llama-server on PATH, or its path into VRAM_LLAMA_SERVER"
    on_host = True
    deals_layers = True
    short: ClassVar = OUT_OF_MEMORY

    def find(self, found: Settings) -> Installed | None:
        """On PATH, or where VRAM_LLAMA_SERVER says."""
        path = found.llama_server or on_path("llama-server")
        if path is None or not path.is_file():
            return None
        # `version: 4927 (a1b2c3d)` until 2026, `version: 0.6.0 (build 11434, …)` since.
        version = re.search(r"\(build (\d{1,6})|version:\s*b?(\d{3,6})\b", _asked(str(path), "--version"))
        return Installed(program=(str(path),), version=f"b{version[1] or version[2]}" if version else "", where=str(path))

    def takes(self, launch: Launch) -> str:
        """GGUF files, and names of repositories that hold them."""
        if launch.is_gguf or (not launch.is_path and "gguf" in launch.model.lower()):
            return ""
        return "llama-server loads GGUF files only" if launch.is_path else "llama-server loads GGUF files: name the repository or the file of the model's GGUF"

    def line(self, launch: Launch, here: Installed, at: Address) -> Line:
        """As `vram args` writes it, and what a server needs beside it."""
        made = command(launch)
        words = list(words_of(made, here.program))
        words += ["--host", at.host, "--port", str(at.port), "--alias", at.name, "--metrics", "--verbosity", "4"]
        known = _asked(here.program[0], "--help")
        # A build whose version is not known may be one that has no such flag.
        for flag in ("--cache-ram", "--ctx-checkpoints"):
            if flag in words and flag not in known:
                del words[(at_flag := words.index(flag)) : at_flag + 2]
        if launch.vendor == "host":
            place = words.index("--n-gpu-layers")
            words[place + 1] = "0"
        if "--fit " in known or "--fit," in known:
            # The plan is made: nothing is to be fitted anew behind its back.
            words += ["--fit", "off"]
        words += [flag for flag in ("--no-webui", "--offline") if flag in known and (flag != "--offline" or launch.is_path)]
        return Line(words=tuple(words), notes=made.notes)


@lru_cache(maxsize=8)
def _asked(program: str, flag: str) -> str:
    return answer_of((program, flag))
