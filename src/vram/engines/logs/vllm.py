"""vLLM's lines, from 0.2 (2023) to 0.33: what a worker prints about memory when it starts.

Sources: vllm/worker/worker.py and model_runner.py (V0), vllm/v1/worker/gpu_worker.py, gpu_model_runner.py,
vllm/v1/core/kv_cache_utils.py (V1), and public logs (tests/data/logs/README.md).
"""

import re
from typing import Final

from vram.engines.logs.base import COUNT, NUMBER, SIZE, Expected, Lines, pattern

_CONFIG: Final = "with config:"
_ARGS: Final = "non-default args"
_DEBUG: Final = "start vLLM with VLLM_LOGGING_LEVEL=DEBUG"

LINES: Final = Lines(
    engine="vllm",
    figures=(
        pattern("oading", rf"(?:Model loading|Loading model weights|Loading model) took {SIZE}", ("weights", "bytes")),
        # 0.6.5 to 0.8 (V0), one line or several.
        pattern("model weights take", rf"model weights take\s+{SIZE}", ("weights", "bytes")),
        pattern("non_torch_memory", rf"non_torch_memory(?: takes)?[\s=]+{SIZE}", ("non_torch", "bytes"), unless="snapshot"),
        pattern("activation peak memory", rf"PyTorch activation peak memory(?: takes)?\s+{SIZE}", ("activation_peak", "bytes")),
        pattern("reserved for KV Cache is", rf"reserved for KV Cache is {SIZE}", ("kv_cache", "bytes")),
        pattern("available_kv_cache_memory", rf"available_kv_cache_memory[\s=]+{SIZE}", ("kv_cache", "bytes")),
        pattern("kv_cache_size=", rf"kv_cache_size={SIZE}", ("kv_cache", "bytes")),
        pattern("peak_torch_memory=", rf"initial_memory_usage={SIZE}.{{0,80}}peak_torch_memory={SIZE}", ("initial", "bytes"), ("peak_torch", "bytes")),
        pattern("total_gpu_memory", rf"total_gpu_memory[\s(=]+{SIZE}", ("gpu_total", "bytes")),
        pattern("can use", rf"gpu_memory_utilization \([\d.]+\) = {SIZE}", ("requested", "bytes")),
        pattern("the current vLLM instance can use", rf"instance can use\s+{SIZE}", ("requested", "bytes")),
        # V1.
        pattern("Available KV cache memory", rf"Available KV cache memory: {SIZE}", ("kv_cache", "bytes")),
        pattern("KV cache size:", rf"KV cache size: {COUNT} tokens", ("kv_tokens", "count")),
        pattern("blocks:", rf"# (?:GPU|CUDA|cuda|gpu|rocm|xpu|hpu) blocks: {COUNT}", ("kv_blocks", "count")),
        pattern(
            "aximum concurrency for",
            rf"aximum concurrency for {COUNT} tokens per request: {NUMBER}x",
            ("max_concurrency_tokens", "count"),
            ("max_concurrency", "count"),
        ),
        pattern("Graph capturing finished", rf"Graph capturing finished in .{{1,30}} took {SIZE}", ("cuda_graph", "bytes")),
        pattern(
            "CUDA graph pool memory", rf"CUDA graph pool memory: {SIZE} \(actual\), {SIZE} \(estimated\)", ("cuda_graph", "bytes"), ("graph_estimate", "bytes")
        ),
        pattern("Estimated CUDA graph memory", rf"Estimated CUDA graph memory: {SIZE}", ("graph_estimate", "bytes")),
        pattern("Total non KV cache memory", rf"Total non KV cache memory: {SIZE}", ("total_non_kv", "bytes")),
        pattern("torch peak memory increase", rf"torch peak memory increase: {SIZE}", ("activation_peak", "bytes")),
        pattern("non-torch forward increase", rf"non-torch forward increase memory: {SIZE}", ("non_torch", "bytes")),
        pattern("weights memory:", rf"weights memory: {SIZE}", ("weights", "bytes")),
        pattern("init memory snapshot", rf"free_memory={SIZE}.{{0,30}}total_memory={SIZE}", ("free_at_init", "bytes"), ("gpu_total", "bytes")),
        pattern("init memory snapshot", rf"non_torch_memory={SIZE}", ("init_non_torch", "bytes")),
        pattern("init memory snapshot", rf"cuda_memory={SIZE}", ("init_cuda_used", "bytes")),
        pattern("worker requested memory", rf"worker requested memory: {SIZE}", ("requested", "bytes")),
        pattern("Initial free memory", rf"Initial free memory:? {SIZE}", ("free_at_init", "bytes")),
        pattern("Requested memory:", rf"Requested memory: [\d.]+ \(util\), {SIZE}", ("requested", "bytes")),
        pattern("as specified by kv_cache_memory_bytes", rf"reserved {SIZE} memory for KV Cache as specified", ("kv_cache", "bytes")),
        pattern("Free memory on device", rf"Free memory on device[^(]{{0,20}}\({NUMBER}/{SIZE}\)", ("free_at_init_number", "number"), ("gpu_total", "bytes")),
        pattern("consumed memory", rf"{SIZE} for consumed memory", ("consumed_weights_plus_nontorch", "bytes")),
        pattern("Actual usage is", rf"Actual usage is {SIZE} for weight", ("weights", "bytes")),
        pattern("for peak activation", rf"{SIZE} for peak activation", ("activation_peak", "bytes")),
        pattern("for non-torch memory", rf"{SIZE} for non-torch memory", ("non_torch", "bytes")),
        pattern("for CUDAGraph memory", rf"{SIZE} for CUDAGraph memory", ("cuda_graph", "bytes")),
        pattern("KV cache is needed", rf"\({SIZE} KV cache is needed.{{1,90}}\({SIZE}\)", ("needed_kv", "bytes"), ("kv_cache", "bytes")),
        pattern("estimated maximum model length", rf"estimated maximum model length is {COUNT}", ("est_max_len", "count")),
        # On a CPU (v1/worker/cpu_worker.py): the pool of all the node's memory.
        pattern("GiB for KV cache on node", r"(?:Explicitly|Auto) set \(([\d.]{1,15})(?=/[\d.]{1,15}\) (G)iB)", ("kv_cache", "bytes")),
        pattern("GiB for KV cache on node", r"(?:Explicitly|Auto) set \([\d.]{1,15}/([\d.]{1,15})\) (G)iB", ("gpu_total", "bytes")),
        pattern("consumed by non-kv usages", rf"{SIZE} requested memory for the worker\. {SIZE} memory was", ("requested", "bytes"), ("total_non_kv", "bytes")),
        pattern("Setting attention block size", rf"Setting attention block size to {COUNT} tokens", ("attention_block_tokens", "count")),
        pattern("Padding mamba page size", rf"Padding mamba page size by {NUMBER}%", ("mamba_page_padding_pct", "number")),
    ),
    settings=(
        pattern("LLM engine (", r"LLM engine \(v?([\w.+-]{1,80})\)", ("engine_version", "text")),
        pattern(" version ", r"█\s+version ([\w.+-]{1,80})", ("engine_version", "text")),
        pattern("Defaulting max_num", r"Defaulting max_num_batched_tokens to (\d{1,9})", ("default_max_num_batched_tokens", "text")),
        pattern("Defaulting max_num", r"Defaulting max_num_seqs to (\d{1,9})", ("default_max_num_seqs", "text")),
        pattern("API server version", r"API server version (?:v)?([\w.+-]{1,80})", ("engine_version", "text")),
        pattern(_CONFIG, r"\bmodel='([^']{1,500})'", ("model_id", "text")),
        pattern(_CONFIG, r"\bdtype=(?:torch\.)?(\w{1,30})", ("dtype", "text")),
        pattern(_CONFIG, r"\bmax_seq_len=(\d{1,12})", ("max_model_len", "text")),
        pattern(_CONFIG, r"tensor_parallel_size=(\d{1,6})", ("tp", "text")),
        pattern(_CONFIG, r"pipeline_parallel_size=(\d{1,6})", ("pp", "text")),
        pattern(_CONFIG, r"data_parallel_size=(\d{1,6})", ("dp", "text")),
        pattern(_CONFIG, r"\bquantization=(?!None)([\w-]{1,60})", ("quant", "text")),
        pattern(_CONFIG, r"enforce_eager=(True|False)", ("enforce_eager", "text")),
        pattern(_CONFIG, r"kv_cache_dtype=(\w{1,30})", ("kv_cache_dtype", "text")),
        pattern(_CONFIG, r"enable_prefix_caching=(True|False)", ("enable_prefix_caching", "text")),
        pattern(_CONFIG, r"speculative_config=(?!None)(\w{1,40}\([^)]{1,400}\)|\{[^}]{1,400}\})", ("speculative_config", "text")),
        pattern(_ARGS, r"'speculative_config': '?(\{[^}]{1,400}\})", ("speculative_config", "text")),
        *(
            pattern(_ARGS, rf"'{argument}': '?([^',}}]{{1,500}})", (name, "text"))
            for argument, name in (
                ("model", "model_id"),
                ("model_tag", "model_id"),
                ("max_model_len", "max_model_len"),
                ("gpu_memory_utilization", "gpu_memory_utilization"),
                ("max_num_seqs", "max_num_seqs"),
                ("max_num_batched_tokens", "max_num_batched_tokens"),
                ("block_size", "block_size"),
                ("tensor_parallel_size", "tp"),
                ("pipeline_parallel_size", "pp"),
                ("enable_expert_parallel", "ep"),
                ("kv_cache_memory_bytes", "kv_cache_memory_bytes"),
                ("kv_cache_dtype", "kv_cache_dtype"),
                ("enable_prefix_caching", "enable_prefix_caching"),
                ("language_model_only", "language_model_only"),
            )
        ),
        pattern("--gpu-memory-utilization", r"--gpu-memory-utilization[ =]([\d.]{1,8})", ("gpu_memory_utilization", "text")),
        pattern("gpu_memory_utilization", r"gpu_memory_utilization[ =(]+([\d.]{1,8})", ("default_gpu_memory_utilization", "text")),
        pattern("Requested memory:", r"Requested memory: ([\d.]{1,8}) \(util\)", ("default_gpu_memory_utilization", "text")),
        pattern("GPU memory utilization", r"GPU memory utilization (?:is )?\(([\d.]{1,8}),", ("default_gpu_memory_utilization", "text")),
        pattern("--max-model-len", r"--max-model-len[ =](\d{1,12})", ("max_model_len", "text")),
        pattern("--max-num-seqs", r"--max-num-seqs[ =](\d{1,9})", ("max_num_seqs", "text")),
        pattern("--max-num-batched-tokens", r"--max-num-batched-tokens[ =](\d{1,9})", ("max_num_batched_tokens", "text")),
        pattern("vllm serve", r"\s(?:-tp|--tensor-parallel-size)[ =](\d{1,6})", ("tp", "text")),
        # Not "Restart vllm serve with --enable-scale-out".
        pattern("vllm serve", r"vllm serve (?!-)(\S{1,500})", ("model_id", "text"), unless="Restart vllm serve"),
        pattern(_CONFIG, r"\bdevice_config=(?:device\()?'?(\w{1,20})", ("device", "text")),
        pattern("_MLA backend", r"Using (AMX_MLA|CPU_MLA) backend", ("mla_backend", "text")),
        pattern("SSM cache type", r"Reset SSM cache type to (float32)", ("mamba_ssm_cache_dtype", "text")),
        pattern("Starting to load model", r"Starting to load model (\S{1,500}?)(?:\.\.\.|\s|$)", ("model_id", "text")),
        pattern("max_num_batched_tokens=", r"max_num_batched_tokens=(\d{1,9})", ("default_max_num_batched_tokens", "text")),
        pattern("max_num_seqs=", r"max_num_seqs=(\d{1,9})", ("default_max_num_seqs", "text")),
    ),
    failures=(
        re.compile(r"OutOfMemoryError|CUDA out of memory|HIP out of memory"),
        re.compile(r"No available memory for the cache blocks"),
        re.compile(r"KV cache is needed, which is larger"),
        re.compile(r"is larger than the maximum number of tokens that can be stored in KV cache"),
        re.compile(r"is less than desired GPU memory utilization"),
        re.compile(r"Engine core initialization failed"),
    ),
    rank=re.compile(r"\((Worker\w*(?: rank=\d+)?|VllmWorker\w*(?: rank=\d+)?|EngineCore\w*|RayWorkerWrapper|RayWorkerVllm)[ ,]{1,2}(?:pid=|ip=)"),
    start=("Initializing a V", "Initializing an LLM engine", "vLLM API server version"),
    complete=("kv_tokens", "kv_blocks"),
    expected=(
        Expected(name="engine_version", what="the version", how="keep the log's first lines"),
        Expected(name="model_id", what="the model", how="keep the log's first lines, or give --model"),
        Expected(name="weights", what="resident weights", how='the line "Model loading took"', on_cpu=False),
        Expected(name="kv_cache", what="the KV pool", how='the line "Available KV cache memory"'),
        Expected(name="kv_tokens", what="tokens of the KV pool", how='the line "GPU KV cache size"'),
        Expected(name="max_concurrency", what="concurrency", how='the line "Maximum concurrency"'),
        Expected(name="cuda_graph", what="CUDA graphs", how='the line "Graph capturing finished"; none with --enforce-eager', on_cpu=False),
        Expected(name="activation_peak", what="activation peak", how=_DEBUG, on_cpu=False),
        Expected(name="non_torch", what="memory outside torch", how=_DEBUG, on_cpu=False),
        Expected(name="init_cuda_used", what="the CUDA context", how=_DEBUG, on_cpu=False),
        Expected(name="gpu_total", what="the card's total", how=f"{_DEBUG}, or give --gpu"),
        Expected(
            name="gpu_memory_utilization", what="--gpu-memory-utilization", how='the line "non-default args"; not printed when it is the default', on_cpu=False
        ),
        Expected(name="max_num_seqs", what="--max-num-seqs", how='the line "non-default args"; not printed when it is the default'),
        Expected(name="max_num_batched_tokens", what="--max-num-batched-tokens", how='the line "Chunked prefill is enabled"'),
    ),
)
