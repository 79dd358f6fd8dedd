"""What engines say of themselves, in their own words: their pages read, and the books corrected by them.

The pages are those of real engines, shortened: llama.cpp b11434 and vLLM 0.32 as they answered here; SGLang's `/get_server_info` as its
documentation prints it (docs/basic_usage/native_api.ipynb) and its metrics as docs/references/production_metrics.md does; TGI's fields
from router/src/lib.rs and docs/source/reference/metrics.md with their own examples; Ollama's from docs/api.md and api/types.go.
"""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mock_engine import MockEngine

pytest.importorskip("httptools", reason="the gateway's extra is not installed")

from test_gateway import MODEL, run, running

from vram.gateway.scrape import Load, load_from_info, load_from_metrics, load_from_models, load_from_props, load_from_ps, load_from_server_info, load_from_slots

SGLANG_INFO = {
    "model_path": "qwen/qwen2.5-0.5b-instruct",
    "context_length": None,
    "max_running_requests": None,
    "max_total_tokens": 20480,
    "page_size": 1,
    "status": "ready",
    "max_total_num_tokens": 20480,
    "max_req_input_len": 20474,
    "internal_states": [
        {
            "max_running_requests": 128,
            "last_gen_throughput": 713.1124929161406,
            "memory_usage": {"weight": 1.98, "kvcache": 0.23, "token_capacity": 20480, "graph": 0.06},
            "effective_max_running_requests_per_dp": 128,
        }
    ],
    "version": "0.0.0.dev1+g4348976f8",
}
SGLANG_METRICS = """# HELP sglang:token_usage The token usage
# TYPE sglang:token_usage gauge
sglang:token_usage{model_name="meta-llama/Llama-3.1-8B-Instruct"} 0.28
# HELP sglang:cache_hit_rate The cache hit rate
sglang:cache_hit_rate{model_name="meta-llama/Llama-3.1-8B-Instruct"} 0.007507552643049313
# HELP sglang:num_running_reqs The number of running requests
sglang:num_running_reqs{model_name="meta-llama/Llama-3.1-8B-Instruct"} 162.0
# HELP sglang:num_used_tokens The number of used tokens
sglang:num_used_tokens{model_name="meta-llama/Llama-3.1-8B-Instruct"} 123859.0
# HELP sglang:num_queue_reqs The number of requests in the waiting queue
sglang:num_queue_reqs{model_name="meta-llama/Llama-3.1-8B-Instruct"} 2826.0
"""
TGI_INFO = {
    "model_id": "bigscience/blomm-560m",
    "max_concurrent_requests": 128,
    "max_best_of": 2,
    "max_input_tokens": 1024,
    "max_total_tokens": 2048,
    "max_client_batch_size": 32,
    "router": "text-generation-router",
    "version": "3.3.6",
    "sha": None,
}
TGI_METRICS = "tgi_batch_max_total_tokens 16384\n# TYPE tgi_batch_current_size gauge\ntgi_batch_current_size 3\ntgi_queue_size 5\ntgi_request_count 40\n"
OLLAMA_PS = {
    "models": [
        {"name": "other:7b", "model": "other:7b", "size": 1, "size_vram": 1, "context_length": 2048},
        {"name": "m:latest", "model": "m:latest", "size": 5137025024, "size_vram": 5137025024, "context_length": 8192, "details": {"format": "gguf"}},
    ]
}
LLAMA_PROPS = {"default_generation_settings": {"params": {"n_predict": -1}, "n_ctx": 2048}, "total_slots": 2, "model_alias": "m"}
LLAMA_SLOTS = [
    {"id": 0, "n_ctx": 2048, "speculative": False, "is_processing": True, "id_task": 3, "n_prompt_tokens": 377, "next_token": [{"n_decoded": 277}]},
    {"id": 1, "n_ctx": 2048, "speculative": False, "is_processing": False, "id_task": 2, "n_prompt_tokens": 512, "next_token": [{"n_decoded": 12}]},
]
LLAMA_METRICS = "llamacpp:prompt_tokens_total 4\nllamacpp:requests_processing 1\nllamacpp:requests_deferred 7\nllamacpp:n_busy_slots_per_decode 1.5\n"
VLLM_METRICS = """vllm:num_requests_running{engine="0",model_name="./full"} 7.0
vllm:num_requests_waiting{engine="0",model_name="./full"} 2.0
vllm:kv_cache_usage_perc{engine="0",model_name="./full"} 0.875
vllm:num_preemptions_total{engine="0",model_name="./full"} 38.0
vllm:cache_config_info{block_size="32",cache_dtype="auto",enable_prefix_caching="True",engine="0",num_gpu_blocks="201",num_gpu_blocks_override="None"} 1.0
"""


def test_each_engine_is_read_in_its_own_words():
    """Capacity, load and longest sequence, as each says them; what it does not say is not made up."""
    assert load_from_server_info(json.dumps(SGLANG_INFO).encode()) == Load(engine="sglang", capacity_tokens=20480, slots=128)
    assert load_from_metrics(SGLANG_METRICS.encode()) == Load(engine="sglang", kv_usage=0.28, running=162, waiting=2826)
    assert load_from_info(json.dumps(TGI_INFO).encode()) == Load(engine="tgi", context_tokens=2048, slots=128)
    assert load_from_metrics(TGI_METRICS.encode()) == Load(engine="tgi", capacity_tokens=16384, running=3, waiting=5)
    assert load_from_ps(json.dumps(OLLAMA_PS).encode(), "m") == Load(engine="ollama", context_tokens=8192)
    assert load_from_ps(json.dumps(OLLAMA_PS).encode(), "absent") == Load()
    assert load_from_props(json.dumps(LLAMA_PROPS).encode()) == Load(engine="llama.cpp", slots=2, context_tokens=2048)
    # Only what a running request has in the cache: what an idle slot keeps is given up when somebody needs it.
    assert load_from_slots(json.dumps(LLAMA_SLOTS).encode()) == Load(engine="llama.cpp", slots=2, running=1, held_tokens=377, context_tokens=2048)
    assert load_from_metrics(LLAMA_METRICS.encode()) == Load(engine="llama.cpp", running=1, waiting=7)
    vllm = load_from_metrics(VLLM_METRICS.encode())
    assert vllm == Load(engine="vllm", kv_usage=0.875, running=7, waiting=2, preemptions=38, block_tokens=32, blocks=201, parts=1)


NAMES = (
    "models name size_vram context_length router max_total_tokens is_processing n_prompt_tokens n_ctx max_total_num_tokens "
    "internal_states total_slots default_generation_settings data max_model_len"
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(NAMES.split(" ")),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(document=JSON, cut=st.integers(0, 200))
def test_nonsense_says_nothing_and_breaks_nothing(document, cut):
    """Whatever an engine answers: figures are whole and not negative, or not there."""
    whole = json.dumps(document).encode()
    for body in (whole, whole[:cut]):
        for load in (
            *(read(body) for read in (load_from_info, load_from_models, load_from_props, load_from_server_info, load_from_slots, load_from_metrics)),
            load_from_ps(body, "m"),
        ):
            for figure in (load.running, load.waiting, load.capacity_tokens, load.held_tokens, load.slots, load.context_tokens):
                assert figure is None or (isinstance(figure, int) and figure >= 0)


@pytest.mark.parametrize(
    ("engine", "settings", "pages", "capacity", "context", "sequences"),
    [
        ("sglang", "context_tokens = 4096", {"/get_server_info": SGLANG_INFO, "/metrics": SGLANG_METRICS}, 20480, 4096, None),
        ("sglang", "context_tokens = 4096", {"/server_info": SGLANG_INFO}, 20480, 4096, None),
        ("generic", "context_tokens = 4096", {"/info": TGI_INFO, "/metrics": TGI_METRICS}, 16384, 2048, None),
        ("ollama", "context_tokens = 4096", {"/api/ps": OLLAMA_PS}, None, 8192, None),
        ("llama.cpp", "context_tokens = 4096\nkv_unified = true", {"/props": LLAMA_PROPS, "/slots": LLAMA_SLOTS}, 2048, 2048, 2),
        ("llama.cpp", "context_tokens = 4096\nmax_num_seqs = 4", {"/props": LLAMA_PROPS, "/slots": LLAMA_SLOTS}, None, 2048, 2),
        ("vllm", "context_tokens = 4096\nblock_size = 32", {"/metrics": VLLM_METRICS}, 6400, 4096, None),
    ],
)
def test_the_books_take_an_engine_at_its_word(tmp_path, engine, settings, pages, capacity, context, sequences):
    """Behind a gateway that planned otherwise: so many tokens of this model's cache (12 KiB each), such a context, so many at once."""

    async def test():
        async with MockEngine() as mock:
            mock.pages |= {path: (200, page if isinstance(page, str) else json.dumps(page)) for path, page in pages.items()}
            text = f'[[pools]]\nname = "p"\nmodel = "{MODEL}"\nengine = "{engine}"\ngpu = "RTX 4090"\nreplicas = ["{mock.url}"]\nserved_as = "m"\n'
            async with running(tmp_path, f"{text}[pools.settings]\n{settings}\n") as gateway:
                (seat,) = gateway.assembled.seats["p"]
                planned = seat.books.capacity_bytes
                for _ in range(150):
                    await asyncio.sleep(0.02)
                    if (capacity is None or seat.books.capacity_bytes != planned) and seat.books.context_tokens == context:
                        break
                assert seat.books.context_tokens == context
                if capacity is not None:
                    assert seat.books.capacity_bytes == capacity * 12_288
                if sequences is not None:
                    assert seat.books.max_sequences == sequences

    run(test())


def test_a_pool_of_several_tables_has_the_bytes_of_its_blocks(tmp_path):
    """Of a model with windows each block of the engine's is one block, however many tables draw on it: what was planned is what is read."""

    async def test():
        async with MockEngine() as mock:
            text = '[[pools]]\nname = "p"\nmodel = "openai/gpt-oss-20b"\nengine = "vllm@0.32.0"\ngpu = "H100 SXM 80GB"\n'
            text += f'replicas = ["{mock.url}"]\nserved_as = "m"\nsettings = {{ context_tokens = 8192 }}\n'
            async with running(tmp_path, text) as gateway:
                (seat,) = gateway.assembled.seats["p"]
                room = gateway.assembled.plans["p"].room
                pool = seat.books.capacity_bytes + room.aside_bytes
                blocks = pool // room.block_bytes
                assert blocks * room.block_bytes == pool
                half = blocks // 2
                mock.pages["/metrics"] = (200, f'vllm:cache_config_info{{block_size="16",num_gpu_blocks="{half + 1}"}} 1.0\n')
                for _ in range(250):
                    await asyncio.sleep(0.02)
                    if seat.books.capacity_bytes != pool - room.aside_bytes:
                        break
                assert seat.books.capacity_bytes == half * room.block_bytes - room.aside_bytes

    run(test())
