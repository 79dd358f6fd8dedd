"""What changed in vLLM from version to version, as data: each change with the version that brought it and its source.

Read in the sources of 22 releases from 0.8.5 to 0.32.0 (the packages on PyPI); older ones by what their logs print. It holds
what vLLM decides; what had to be measured is in constants.py.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Final

from vram.errors import UsageError

NEWEST: Final = (0, 33)
# Releases of the years that people name instead of a version ("2026-08 build"): the last of that year, of this year the newest.
_BY_YEAR: Final = {2023: (0, 2), 2024: (0, 6), 2025: (0, 13)}
# What logs of a month of 2026 mostly print (truth/engine_logs.jsonl, truth/found_startups.jsonl).
_BY_MONTH: Final = {1: 14, 2: 16, 3: 18, 4: 19, 5: 21, 6: 23, 7: 25, 8: 27, 9: 29, 10: 31}


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One version's rules.

    Attributes:
        version: (major, minor).
        v1: the V1 engine: 1,024 sequences on cards of 70 GiB and more, prefill always in chunks.
        utilization: default of `--gpu-memory-utilization`.
        context_counts: whether the CUDA context is inside the budget.
        hybrid: whether layers with windows and states share blocks with full ones; before, windows were kept in full.
        near_equal: see kv_layout.Settings.
        small_a100: whether A100s get the batch sizes of small cards.
        huge_batches: whether cards of 160 GiB and more get 16,384 batched tokens.
        batches_in_flight: batches that hold blocks at once under asynchronous scheduling.
        null_block: see kv_layout.Settings.
        checkpoints: see kv_layout.Settings.
        hybrid_prefixes: whether models with states cache prefixes by default.
        tokens_from_concurrency: whether the printed token count is concurrency x length; before, blocks x block size.
        graphs_deducted: whether the pool is cut by an estimate of the CUDA graphs.
        light_sampler: whether the sampler's peak is the lower one (constants.py).
        latent_block: tokens of an MLA block on a Hopper GPU.
        cpu: the build for CPUs (`0.32.0+cpu`): blocks of 128, kernels' blocks of 32, no asynchronous scheduling. What else holds there depends
            on the processor (`cpu_release`); without a word of it one with AVX512-BF16 and without AMX is meant.
        amx: that build on a processor with AMX (`0.32.0+cpu.amx`): MLA takes blocks as the others do, without it 16 whatever was asked for.
        wide_states: that build keeps states in float32, as wherever a processor has AVX512-BF16; `0.32.0+cpu.avx512` and `0.32.0+cpu.plain` say
            that it has not.
    """

    version: tuple[int, ...]
    v1: bool = False
    utilization: float = 0.90
    context_counts: bool = False
    hybrid: bool = False
    near_equal: float = 0.0
    small_a100: bool = False
    huge_batches: bool = False
    batches_in_flight: int = 1
    null_block: bool = False
    checkpoints: bool = False
    hybrid_prefixes: bool = False
    tokens_from_concurrency: bool = False
    graphs_deducted: bool = False
    light_sampler: bool = False
    latent_block: int = 16
    cpu: bool = False
    amx: bool = False
    wide_states: bool = False

    @property
    def label(self) -> str:
        """As people write it."""
        return f"{self.version[0]}.{self.version[1]}{'+cpu' if self.cpu else ''}"


# (from this version, field, value). Sources: paths of vLLM at the first release that has it.
CHANGES: Final[tuple[tuple[tuple[int, ...], str, object], ...]] = (
    ((0, 8), "v1", True),  # vllm/engine/arg_utils.py, _set_default_args_v1: "For GPUs like H100 and MI300x, use larger default values"
    ((0, 8), "context_counts", True),  # v1/worker/gpu_worker.py of 0.8.5: all memory in use that is not torch's is taken off
    ((0, 8), "latent_block", 64),  # platforms/cuda.py: "Forcing kv cache block size to 64 for FlashMLA backend"
    ((0, 9), "context_counts", False),  # v1/worker/gpu_worker.py of 0.9.2: memory_profiling() counts from a snapshot after init
    ((0, 9), "hybrid", True),  # v1/core/kv_cache_utils.py of 0.9.2: _get_kv_cache_config_uniform_page_size
    ((0, 9), "small_a100", True),  # engine/arg_utils.py: '"a100" not in device_name' (vllm-project/vllm#17885)
    ((0, 12), "near_equal", 1.25),  # v1/core/kv_cache_utils.py: max_num_layers < min_num_layers * 1.25
    ((0, 17), "light_sampler", True),  # measured: 14 bytes a logit instead of 38 (constants.py)
    ((0, 18), "near_equal", 1.5),  # v1/core/kv_cache_utils.py: max_num_layers < min_num_layers * 1.5
    ((0, 18), "latent_block", 16),  # printed blocks: FLASH_ATTN_MLA on H100 and H200 takes any multiple of 16
    ((0, 20), "utilization", 0.92),  # config/cache.py: gpu_memory_utilization
    ((0, 20), "graphs_deducted", True),  # envs.py: VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS is 1 (0 in 0.18 and 0.19)
    ((0, 20, 2), "tokens_from_concurrency", True),  # v1/core/kv_cache_utils.py, _report_kv_cache_config; 0.20.0 printed blocks (4 starts), 0.20.2 not (2)
    ((0, 26), "batches_in_flight", 2),  # config/vllm.py: max_in_flight_tokens; async_scheduling itself is on since 0.14
    ((0, 26), "hybrid_prefixes", True),  # config/model.py: "Generative hybrid models support prefix caching"
    ((0, 28), "huge_batches", True),  # engine/arg_utils.py: "for GPUs like B200/B300 with >= 160GB memory"
    ((0, 29), "null_block", True),  # v1/core/kv_cache_utils.py: "Reserve the null block BlockPool permanently holds back"
    ((0, 29), "checkpoints", True),  # v1/kv_cache_interface.py: num_prefill_checkpoint_blocks
)


def cpu_release(version: str, flags: Collection[str]) -> str:
    """How the rules name a build for CPUs on a processor: `0.32.0+cpu.amx` for `0.32.0+cpu` where there is AMX.

    Args:
        version: the build's own version.
        flags: the processor's instruction sets, as Linux writes them in /proc/cpuinfo.

    Source: vllm/platforms/cpu.py asks `torch.cpu._is_amx_tile_supported` and `_is_avx512_bf16_supported`; cpu_attn.py, `_get_attn_isa`.
    """
    if "avx512_bf16" in flags:
        return f"{version}.amx" if "amx_tile" in flags else version
    return f"{version}.{'avx512' if 'avx512f' in flags else 'plain'}"


@lru_cache(maxsize=256)
def release_of(text: str) -> Release:
    """The rules of a version as a person or a log writes it: `0.19.0`, `v0.18.0+rhai1`, `0.7`; the newest known for "".

    Raises:
        UsageError: the text names no version of vLLM.
    """
    version = _parse(text)
    values = {name: value for since, name, value in CHANGES if since <= version}
    known = {f.name for f in fields(Release)}
    if "+v0" in text.lower():
        values |= {"v1": False, "hybrid": False, "context_counts": False}  # the old engine in a later version: VLLM_USE_V1=0
    if cpu := "+cpu" in text.lower():
        values["batches_in_flight"] = 1  # platforms/cpu.py: async_scheduling is False
        values |= {"amx": "amx" in text.lower(), "wide_states": not text.lower().endswith((".avx512", ".plain", ".avx2"))}  # platforms/cpu.py
    return Release(version=version, cpu=cpu, **{k: v for k, v in values.items() if k in known})  # type: ignore[arg-type]


def _parse(text: str) -> tuple[int, ...]:
    if not text.strip():
        return NEWEST
    if year := re.search(r"\b(20\d\d)(?:-(\d\d))?\b", text):
        minor = _BY_MONTH.get(int(year[2] or 0)) if int(year[1]) == 2026 else None
        return (0, minor) if minor is not None else _BY_YEAR.get(int(year[1]), NEWEST)
    if found := re.search(r"(\d{1,3})\.(\d{1,3})(?:\.(\d{1,3}))?", text):
        return tuple(int(number) for number in found.groups() if number is not None)
    raise UsageError(f"{text!r} is no version of vLLM", hint="write vllm@0.19.0, or vllm for the newest that is known")
