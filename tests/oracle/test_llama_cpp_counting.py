"""A real llama-server counts the prompts that an estimate would refuse: what the gateway takes for their length is what it then reports as used."""

import json

import pytest
import test_llama_cpp_gateway as beside
from test_llama_cpp_gateway import pools, server, tiny_gguf

pytest.importorskip("prometheus_client", reason="the test extra is not installed")
from test_gateway import ask, run, running  # beside the fast tests, as is what comes with it
from test_gateway_metrics import scrape, total

pytestmark = beside.pytestmark
CONTEXT = 2048


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_gguf.write(tmp_path_factory.mktemp("model") / "tiny.gguf")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_what_fits_by_its_count_is_served(model, tmp_path, path):
    """1,800 words in 2,048 tokens: by bytes they could be 5,000; 2,200 are refused with their own number."""

    def asked(words):
        text = tiny_gguf.text(words)
        what = {"messages": [{"role": "user", "content": text}]} if "chat" in path else {"prompt": text}
        return {"model": "m", "max_tokens": 20, **what}

    async def test():
        async with running(tmp_path, pools(model, port, context_tokens=CONTEXT, max_num_seqs=1)) as gateway:
            status, _, answer = await ask(gateway, asked(1800), path=path)
            assert status == 200, answer
            used = json.loads(answer)["usage"]["prompt_tokens"]
            (known,) = gateway.assembled.desk.counting._known.values()
            assert known == used >= 1800
            status, _, answer = await ask(gateway, asked(2200), path=path)
            error = json.loads(answer)["error"]
            assert (status, error["code"]) == (400, "context_length_exceeded")
            assert "about 2,2" in error["message"]
            assert total(await scrape(gateway), "vram_counted_prompts_total", result="counted") == 2

    with server(model, "-c", CONTEXT, "--parallel", 1) as (port, _):
        run(test())
