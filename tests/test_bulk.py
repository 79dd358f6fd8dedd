"""Plans by the hundred thousand equal the scalar planner's, to the byte."""

import sys

import numpy as np
import pytest
from bulk_oracle import ENGINES, differences, sampled
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from vram.api import catalogue_facts, catalogued, load_model
from vram.engines.supports import OFFERED, method_of, supported
from vram.errors import UsageError
from vram.hardware.spelling import parse_gpu
from vram.planner.bulk import VERDICTS, Place, candidates
from vram.planner.plan import Verdict

H100 = parse_gpu("H100 SXM 80GB").gpu


@pytest.mark.timeout(900)
@pytest.mark.parametrize("engine", ENGINES)
def test_rows_at_random_equal_the_scalar_plans(engine):
    """Every part, the verdict, the spare bytes and the pool of rows at random, over all models, quantizations, cards and counts."""
    for seed in range(4):
        table, rows = sampled(seed, 60, engines=(engine,))
        assert not differences(table, rows)[:3]


@pytest.mark.timeout(600)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(
    context=st.integers(1, 1_000_000),
    concurrency=st.integers(1, 5000),
    kv_dtype=st.sampled_from([None, "auto", "fp8", "fp8_e5m2", "f16", "bf16", "q8_0", "q4_0", "f32"]),
    headroom=st.floats(0, 1),
    models=st.lists(st.sampled_from([m.id for m in catalogue_facts().models]), min_size=1, max_size=2, unique=True),
    seed=st.integers(0, 10**6),
)
def test_any_workload_gives_the_scalar_plans(context, concurrency, kv_dtype, headroom, models, seed):
    """Nothing in the workload is rounded, overflows, or is taken from the compiled catalogue where it would not hold."""
    table, rows = sampled(seed, 12, context=context, concurrency=concurrency, kv_dtype=kv_dtype, headroom=headroom, models=models)
    assert not differences(table, rows)


def test_every_model_stands_in_the_table_in_every_quantization_that_the_engine_runs():
    """On a card that runs everything and holds nothing else: each model as published, and each offered quantization of the unquantised."""
    facts = catalogue_facts()
    table = candidates(facts, [Place(gpu=parse_gpu("B200").gpu, count=1)], context_tokens=8192)
    have = {(table.models[m].id, table.engines[e], table.quants[q]) for m, e, q in zip(table.model, table.engine, table.quant, strict=True)}
    assert len(have) == len(table)
    for model in facts.models:
        for engine, offered in OFFERED.items():
            for quant in ("", *(offered if not model.quantization else ())):
                runs = supported(engine, quant or model.quantization, parse_gpu("B200").gpu)
                # llama.cpp may refuse a model's caches; nothing else may be missing.
                assert ((model.id, engine, quant) in have) == runs or engine in {"llama.cpp", "ollama"}, (model.id, engine, quant)


def test_what_cannot_run_is_not_offered():
    """No GGUF on vLLM, no AWQ on llama.cpp, no fp8 before Ada but with vLLM's Marlin, no NVFP4 of TensorRT-LLM before Blackwell, nothing of it on AMD."""
    table = candidates(
        catalogue_facts(),
        [Place(gpu=parse_gpu(name).gpu, count=1) for name in ("RTX 3090", "H100 SXM 80GB", "MI300X", "M4 Max 128GB")],
        context_tokens=8192,
    )
    rows = {
        (table.engines[e], method_of(table.quants[q] or table.models[m].quantization), table.places[p].gpu.name)
        for e, q, m, p in zip(table.engine, table.quant, table.model, table.place, strict=True)
    }
    assert not {r for r in rows if r[0] in {"vllm", "sglang", "tensorrt-llm", "transformers"} and r[1] == "gguf"}
    assert {r[1] for r in rows if r[0] in {"llama.cpp", "ollama"}} <= {"gguf", "16-bit", "mxfp4"}
    assert not {r for r in rows if r[1].startswith("fp8") and r[2].startswith("RTX 3090") and r[0] != "vllm"}
    assert not {r for r in rows if r[0] == "tensorrt-llm" and (r[1] == "nvfp4" or "MI300" in r[2])}
    assert {r[0] for r in rows if r[2].startswith("M4")} == {"llama.cpp", "ollama", "transformers"}


def test_a_row_opens_as_the_scalar_plan():
    """`Table.plan` and `vram.plan` with `Table.options` give the plan that the row stands for."""
    import vram

    table = candidates(
        catalogue_facts(), [Place(gpu=H100, count=2)], context_tokens=32768, concurrency=4, models=["Qwen/Qwen3-32B"], engines=["vllm"], quants=["awq"]
    )
    assert len(table) == 1
    for plan in (table.plan(0, catalogued), vram.plan("Qwen/Qwen3-32B", offline=True, **table.options(0))):
        assert plan.spare_bytes == table.spare_bytes[0]
        assert plan.verdict is VERDICTS[table.verdict[0]] is Verdict.FITS


def test_a_model_that_is_not_in_the_catalogue_is_compiled_when_it_is_asked_for(tmp_path):
    """A local config goes the same way as the catalogue's, and equals the scalar plans too."""
    from vram.planner.bulk.reduce import facts_of

    (tmp_path / "config.json").write_text(
        '{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 6,'
        ' "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 32000, "max_position_embeddings": 4096, "torch_dtype": "bfloat16"}'
    )
    model = load_model(str(tmp_path))
    table = candidates(facts_of([model]), [Place(gpu=H100, count=n) for n in (1, 2, 4, 16)], context_tokens=2048)
    assert set(table.engines) == set(OFFERED)
    assert len(table) > 100
    plans = [table.plan(row, lambda _: model) for row in range(0, len(table), 7)]
    assert [p.spare_bytes for p in plans] == table.spare_bytes[::7].tolist()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"context_tokens": 0}, "--context"),
        ({"context_tokens": 2**25}, "--context"),
        ({"concurrency": 0}, "--concurrency"),
        ({"context_tokens": 2**24, "concurrency": 2**20}, "--context x --concurrency"),
        ({"headroom": -1}, "--headroom"),
        ({"models": ["no/such"]}, "catalogue"),
        ({"quants": ["Q9_Z"]}, "Q9_Z"),
        ({"engines": ["vlm"]}, "vlm"),
        ({"kv_dtype": "fp3"}, "fp3"),
        ({"places": [Place(gpu=H100, count=17)]}, "GPUs"),
    ],
)
def test_bad_questions_are_told(asked, words):
    """A clear error with a hint, never a traceback or an empty table."""
    with pytest.raises(UsageError, match=words) as error:
        candidates(catalogue_facts(), **({"places": [Place(gpu=H100, count=1)], "context_tokens": 8192} | asked))
    assert error.value.hint


def test_a_table_can_be_cut_down():
    """Rows by mask or index, with all of their columns; an empty one too."""
    table = candidates(catalogue_facts(), [Place(gpu=H100, count=1)], context_tokens=8192, models=["Qwen/Qwen3-8B"])
    fits = table.take(table.verdict == 2)
    assert 0 < len(fits) < len(table) or (table.verdict == 2).all()
    assert (fits.spare_bytes >= 0).all()
    assert len(table.take(np.array([], dtype=int))) == 0
    assert len(candidates(catalogue_facts(), [], context_tokens=8192)) == 0


def test_plans_one_by_one_need_no_arrays():
    """`vram plan` must not pay for what `vram pick` needs."""
    import subprocess

    code = "import sys, vram.api, vram.planner.make, vram.engines.vllm.engine, vram.cli.plan; print('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
