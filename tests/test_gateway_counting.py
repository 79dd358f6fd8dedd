"""No request is refused as too long on an estimate where its engine can count; where it cannot, the safe estimate stands."""

import json

import pytest
from mock_engine import MockEngine

pytest.importorskip("httptools", reason="the gateway's extra is not installed")
pytest.importorskip("prometheus_client", reason="the test extra is not installed")

from test_gateway import ask, chat, pools, run, running
from test_gateway_metrics import scrape, total

SMALL = "settings = { context_tokens = 1024 }"
WORDS = 600
"""Words of a prompt whose bytes could be twice as many tokens as fit, and whose words are as many as do."""


def vllm(told):
    """Counts words, as vLLM answers."""

    def tokenize(asked):
        told.append(asked)
        text = asked["prompt"] if "prompt" in asked else " ".join(m["content"] for m in asked["messages"])
        count = len(text.split())
        return json.dumps({"count": count, "max_model_len": 1024, "tokens": list(range(count)), "token_strs": None})

    return {"/tokenize": tokenize}


def llama_cpp(told):
    """The same in llama.cpp's two steps."""

    def template(asked):
        told.append(asked)
        return json.dumps({"prompt": " ".join(m["content"] for m in asked["messages"])})

    def tokenize(asked):
        told.append(asked)
        return json.dumps({"tokens": list(range(len(asked["content"].split())))})

    return {"/apply-template": template, "/tokenize": tokenize}


@pytest.mark.parametrize(("engine", "tells", "asked"), [("vllm", vllm, 1), ("llama.cpp", llama_cpp, 2)])
def test_the_engine_counts_before_a_refusal(tmp_path, engine, tells, asked):
    """What fits by its count is served, and counted once; what does not is refused with the count; what its tokenizer is told is the prompt alone."""

    async def test():
        told = []
        async with MockEngine() as mock:
            mock.tells = tells(told)
            text = pools(mock, per_pool=SMALL).replace('engine = "vllm"', f'engine = "{engine}"')
            async with running(tmp_path, text) as gateway:
                body = chat(words=WORDS, max_tokens=100, user="secret")
                status, _, _ = await ask(gateway, body)
                assert status == 200
                assert len(told) == asked
                assert all("secret" not in json.dumps(t) for t in told)
                assert (await ask(gateway, body))[0] == 200
                assert len(told) == asked
                status, _, answer = await ask(gateway, chat(words=1000, max_tokens=100))
                assert (status, json.loads(answer)["error"]["code"]) == (400, "context_length_exceeded")
                assert "about 1,000 prompt tokens" in json.loads(answer)["error"]["message"]
                found = await scrape(gateway)
                assert total(found, "vram_counted_prompts_total", result="counted") == 2
                assert total(found, "vram_counted_prompts_total", result="remembered") == 1

    run(test())


def test_plain_prompts_are_counted_too(tmp_path):
    """`/v1/completions` goes to the tokenizer as text."""

    async def test():
        told = []
        async with MockEngine() as mock:
            mock.tells = vllm(told)
            async with running(tmp_path, pools(mock, per_pool=SMALL)) as gateway:
                body = {"model": "m", "prompt": "word " * WORDS, "max_tokens": 100}
                assert (await ask(gateway, body, path="/v1/completions"))[0] == 200
                assert [t["prompt"] for t in told] == [body["prompt"]]

    run(test())


def test_without_a_count_the_estimate_stands(tmp_path):
    """An engine that cannot count, or answers nonsense: 400 as ever; a prompt far too long is not even asked about; who leaves meanwhile is gone."""

    async def test():
        async with MockEngine() as mock, running(tmp_path, pools(mock, per_pool=SMALL)) as gateway:
            assert (await ask(gateway, chat(words=WORDS, max_tokens=100)))[0] == 400
            for nonsense in ("[]", "{}", '{"count": -1}', '{"count": "many"}', "no JSON"):
                mock.tells = {"/tokenize": lambda _, text=nonsense: text}
                assert (await ask(gateway, chat(words=WORDS, max_tokens=100)))[0] == 400
            told = []
            mock.tells = vllm(told)
            assert (await ask(gateway, chat(words=100_000, max_tokens=100)))[0] == 400
            assert not told
            mock.tells = {}
            mock.behaviour = "no-answer"
            mock.pages["/tokenize"] = (500, "no")
            assert (await ask(gateway, chat(words=WORDS, max_tokens=100)))[0] == 400
            assert total(await scrape(gateway), "vram_counted_prompts_total", result="failed") == 7

    run(test())
