"""Engines as programs, by name, in the order in which they are tried."""

from importlib import import_module
from typing import Final

from vram.errors import UsageError
from vram.runtime.engines.base import Program

_PROGRAMS: Final = {
    "vllm": ("vram.runtime.engines.vllm", "Vllm"),
    "sglang": ("vram.runtime.engines.sglang", "Sglang"),
    "ollama": ("vram.runtime.engines.ollama", "Ollama"),
    "llama-server": ("vram.runtime.engines.llama_server", "LlamaServer"),
    "llama_cpp.server": ("vram.runtime.engines.llama_cpp_python", "LlamaCppPython"),
}
PROGRAMS: Final = tuple(_PROGRAMS)
_ALIASES: Final = {"llama.cpp": "llama-server", "llama-cpp": "llama-server", "llamacpp": "llama-server", "llama-cpp-python": "llama_cpp.server"}


def program(name: str) -> Program:
    """The engine of that name.

    Raises:
        UsageError: there is none.
    """
    name = _ALIASES.get(name.lower(), name.lower())
    if name not in _PROGRAMS:
        raise UsageError(f"no engine {name!r} can be started", hint=f"those that can: {', '.join(PROGRAMS)}")
    module, kind = _PROGRAMS[name]
    made: Program = getattr(import_module(module), kind)()
    return made
