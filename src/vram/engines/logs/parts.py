"""Which part of a plan a figure of a log is, and their sums."""

import re
from typing import Final

from vram.engines.logs.base import EngineLog
from vram.engines.logs.row import deciding

PARTS: Final = {
    "weights": "weights",
    "lora": "weights",
    "kv_cache": "kv_cache",
    "mamba_state": "kv_cache",
    "activation_peak": "activations",
    "output": "activations",
    "exec_context": "activations",
    "runtime_buffers": "activations",
    "decoder_buffers": "activations",
    "cuda_graph": "cuda_graphs",
    "init_cuda_used": "runtime",
    "non_torch": "communication",
}
"""Figure of the log -> the plan's part that it is, or a part of."""


_NUMBER: Final = re.compile(r"[A-Za-z]+(\d+)")


def parts_of(log: EngineLog, gpus: int) -> list[dict[str, float]]:
    """Bytes per part: of each GPU where the log tells them one by one, else of the one that decides."""
    ranks = [r for r in log.ranks if any(x.name == "weights" for x in log.readings if x.rank == r)]
    if len(ranks) == gpus and log.engine in {"llama.cpp", "ollama"}:
        found = []
        # Printed by name, and CUDA10 comes before CUDA2 in the alphabet only.
        for rank in sorted(ranks, key=lambda name: int(number[1]) if (number := _NUMBER.match(name)) else 0):
            sizes: dict[str, float] = {}
            for r in log.readings:
                if r.rank == rank and r.name in PARTS and r.is_bytes and r.value >= 0:
                    sizes[PARTS[r.name]] = sizes.get(PARTS[r.name], 0) + r.value
            found.append(sizes)
        return found
    sizes = {}
    for name, part in PARTS.items():
        reading = deciding(log, name)
        if reading is not None and reading.is_bytes and reading.value >= 0:
            sizes[part] = sizes.get(part, 0) + reading.value
    return [sizes]
