"""The `openai` package, which others wrote against OpenAI's own API, works unchanged against the gateway, and raises what its users catch."""

import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("httptools", reason="the gateway's extra is not installed")
openai = pytest.importorskip("openai", reason="the oracle extra is not installed")

sys.path.insert(0, str(Path(__file__).parents[1]))

from gateway_thread import serving  # noqa: E402
from test_gateway import pools  # noqa: E402

from vram.gateway.store import Store  # noqa: E402

HELLO = [{"role": "user", "content": "Say hello."}]
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}
PICTURE = "data:image/png;base64," + "iVBORw0KGgo" * 50

RESPONSE = (
    '{"id":"r","object":"response","created_at":1,"model":"m","output":[{"type":"message","id":"i","role":"assistant","status":"completed",'
    '"content":[{"type":"output_text","text":"Hi","annotations":[]}]}],"parallel_tool_calls":true,"tool_choice":"auto","tools":[],'
    '"usage":{"input_tokens":3,"input_tokens_details":{"cached_tokens":0},"output_tokens":1,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":4}}'
)


@contextmanager
def client(tmp_path, *, extra="", **options):
    """A client with a key, the gateway and its engine."""
    store = Store(tmp_path / "gateway.db")
    key = store.add_key("tests")
    slow = store.add_key("slow", requests_per_minute=1)
    store.close()
    with serving(tmp_path, lambda engine: pools(engine, extra=extra), **options) as (gateway, engine):
        made = openai.OpenAI(api_key=key, base_url=f"http://127.0.0.1:{gateway.port}/v1", max_retries=0, timeout=10)
        yield made, made.with_options(api_key=slow), engine
        made.close()


def test_chat(tmp_path):
    """An answer with its usage and our headers; streams with and without usage; tools, pictures and n arrive at the engine as they were sent."""
    with client(tmp_path, chunks=6) as (ask, _, engine):
        raw = ask.chat.completions.with_raw_response.create(model="m", messages=HELLO, max_tokens=9)
        assert raw.headers["x-vram-pool"] == "p0"
        assert int(raw.headers["x-vram-lease-bytes"]) > 0
        answer = raw.parse()
        assert (answer.choices[0].message.content, answer.usage.completion_tokens) == ("Hello", 6)
        for asked in (False, True):
            more = {"stream_options": {"include_usage": True}} if asked else {}
            chunks = list(ask.chat.completions.create(model="m", messages=HELLO, stream=True, **more))
            assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "w0 w1 w2 w3 w4 w5 "
            assert [c.usage.completion_tokens for c in chunks if c.usage] == ([6] if asked else [])
        vision = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": PICTURE}}]}]
        ask.chat.completions.create(model="m", messages=vision, tools=[TOOL], n=3, extra_body={"top_k": 5})
        sent = engine.bodies[-1]
        assert (sent["messages"], sent["tools"], sent["n"], sent["top_k"]) == (vision, [TOOL], 3, 5)
        one = int(raw.headers["x-vram-lease-bytes"])
        three = ask.chat.completions.with_raw_response.create(model="m", messages=HELLO, max_tokens=9, n=3)
        assert int(three.headers["x-vram-lease-bytes"]) == 3 * one


def test_the_other_paths(tmp_path):
    """Completions, responses and embeddings reach the engine's path of the same name; models are listed."""
    with client(tmp_path) as (ask, _, engine):
        engine.pages["/v1/responses"] = (200, RESPONSE)
        engine.pages["/v1/embeddings"] = (
            200,
            '{"object":"list","model":"m","data":[{"object":"embedding","index":0,"embedding":[0.5,-1.0]}],"usage":{"prompt_tokens":2,"total_tokens":2}}',
        )
        assert ask.completions.create(model="m", prompt="Once upon", max_tokens=5).usage.prompt_tokens == 10
        assert engine.bodies[-1]["prompt"] == "Once upon"
        assert ask.responses.create(model="m", input="Say hi").output_text == "Hi"
        assert ask.embeddings.create(model="m", input="two words", encoding_format="float").data[0].embedding == [0.5, -1.0]
        paths = {head.split(b" ")[1] for head in engine.heads}
        assert {b"/v1/completions", b"/v1/responses", b"/v1/embeddings"} <= paths
        assert [model.id for model in ask.models.list()] == ["m"]


def test_errors_are_what_their_users_catch(tmp_path):
    """Each refusal raises the class that OpenAI's would, with its code; a stream that breaks raises inside of the loop."""
    with client(tmp_path) as (ask, slow, engine):

        def chat(by=ask, **more):
            return by.chat.completions.create(**{"model": "m", "messages": HELLO, **more})

        with pytest.raises(openai.BadRequestError) as found:
            chat(messages=[{"role": "user", "content": "word " * 200_000}])
        assert (found.value.code, found.value.type) == ("context_length_exceeded", "invalid_request_error")
        with pytest.raises(openai.BadRequestError) as found:
            chat(max_tokens=-1)
        assert found.value.code == "bad_max_tokens"
        with pytest.raises(openai.NotFoundError) as found:
            chat(model="nobody")
        assert found.value.code == "model_not_found"
        with pytest.raises(openai.NotFoundError):
            ask.get("/nothing", cast_to=object)
        with pytest.raises(openai.AuthenticationError) as found:
            chat(ask.with_options(api_key="sk-guess"))
        assert found.value.code == "invalid_api_key"
        chat(slow)
        with pytest.raises(openai.RateLimitError) as found:
            chat(slow)
        assert found.value.code == "requests_exceeded"
        assert int(found.value.response.headers["retry-after"]) > 0
        engine.behaviour = "error-500"
        with pytest.raises(openai.InternalServerError):
            chat()
        engine.behaviour = "die-mid-stream"
        got = []
        with pytest.raises(openai.APIError) as found:
            got.extend(chunk.choices[0].delta.content for chunk in chat(stream=True))
        assert got == ["w0 ", "w1 "]
        assert (found.value.code, found.value.type) == ("engine_lost", "upstream_error")
        engine.behaviour = "die-before-head"
        with pytest.raises(openai.InternalServerError) as found:
            chat()
        assert (found.value.status_code, found.value.code) == (502, "engine_unreachable")
