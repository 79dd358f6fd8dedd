"""llama.cpp on a machine without a GPU: every buffer lies in main memory, and a plan's parts are made of those."""

from collections.abc import Iterable, Mapping
from typing import Final

from vram.memory.part import Part, Parts

HOST_VENDOR: Final = "host"
"""Vendor of main memory where it stands in for a GPU (vram.hardware.probe.cpu)."""


def on_host(found: Mapping[str, Part], kv_cache: Part, kept: Part | None = None) -> Parts:
    """A plan's parts out of the host's buffers.

    Args:
        found: the buffers by name (`LlamaCpp.host_parts`).
        kv_cache: the caches, with the reason in words.
        kept: what comes with the requests; None: nothing.
    """
    none = Part.exact(0, "formula", "no GPU")
    return Parts(
        weights=_sum((found[n] for n in ("weights", "lora", "draft_weights") if n in found), "mapped from the file"),
        kv_cache=kv_cache,
        activations=_sum((found[n] for n in ("compute", "output", "draft_compute", "draft_output") if n in found), "compute buffer and logits"),
        cuda_graphs=none,
        runtime=_sum((found["runtime"], *(() if kept is None else (kept,))), ""),
        communication=none,
    )


def _sum(parts: Iterable[Part], why: str) -> Part:
    all_of = tuple(parts)
    if not all_of:
        return Part.exact(0, "formula", why)
    return Part(
        bytes=sum(p.bytes for p in all_of),
        low=sum(p.low for p in all_of),
        high=sum(p.high for p in all_of),
        source=all_of[0].source,
        why="; ".join(dict.fromkeys(p.why for p in all_of)),
    )
