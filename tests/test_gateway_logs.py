"""What is told of each request: one line, one span, the response's headers; never a prompt, never a key, nothing that forges a line."""

import asyncio
import contextlib
import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
from mock_engine import MockEngine

pytest.importorskip("httptools", reason="the gateway's extra is not installed")

from gateway_thread import serving
from test_gateway import MODEL, ask, chat, pools, run, running

from vram.gateway.after import After, TurnedAway
from vram.gateway.lines import Lines
from vram.gateway.log import JsonLines, TextLines, request_lines
from vram.gateway.store import Store

SECRET = "tell-nobody-of-this-prompt"  # noqa: S105  (of this test)
NASTY = 'm\x1b[31m\r\n{"event":"request"}\x7f\u2028"'


def test_a_line_for_each_request(tmp_path):
    """Answered, streamed, refused, unknown, unreadable, cut off: one JSON line each, with what the client saw; no prompt and no key in any."""
    out = io.StringIO()

    async def test():
        store = Store(tmp_path / "gateway.db")
        key = store.add_key("team-a")
        store.close()
        bearer = f"Authorization: Bearer {key}\r\n"
        async with MockEngine(chunks=6) as engine, running(tmp_path, pools(engine), listeners=(request_lines(out),)) as gateway:

            async def send(name, body, headers=bearer):
                return await ask(gateway, body, headers=f"{headers}x-request-id: {name}\r\n")

            body = {"model": "m", "messages": [{"role": "user", "content": SECRET}]}
            await send("plain", body)
            await send("stream", {**body, "stream": True, "max_tokens": 30})
            await send("unknown", {**body, "model": NASTY})
            await send("long", chat(words=200_000))
            await send("stranger", body, headers="Authorization: Bearer vram-guess\r\n")
            engine.behaviour = "die-mid-stream"
            await send("cut", {**body, "stream": True})
            # A client that leaves in the middle.
            engine.behaviour, engine.delay_seconds = "honest", 0.05
            left = asyncio.create_task(send("left", {**body, "stream": True}))
            await asyncio.sleep(0.15)
            left.cancel()
            await asyncio.wait({left})
            await asyncio.sleep(0.1)
        return key

    keys = []

    async def outer():
        keys.append(await test())

    run(outer())
    text = out.getvalue()
    assert SECRET not in text
    assert keys[0] not in text
    assert "vram-guess" not in text
    lines = [json.loads(line) for line in text.splitlines()]
    told = {line.get("request_id", line["event"]): line for line in lines}
    assert len(lines) == len(told) == 7
    assert (told["plain"]["outcome"], told["plain"]["status"], told["plain"]["key"], told["plain"]["pool"]) == ("ok", 200, "team-a", "p0")
    assert (told["plain"]["prompt_tokens"], told["plain"]["completion_tokens"], told["plain"]["stream"]) == (10, 6, False)
    assert told["stream"]["stream"]
    assert 0 < told["stream"]["ttft_seconds"] <= told["stream"]["total_seconds"]
    assert (told["unknown"]["outcome"], told["unknown"]["code"], told["unknown"]["model"]) == ("refused", "model_not_found", NASTY)
    assert (told["long"]["outcome"], told["long"]["code"]) == ("refused", "context_length_exceeded")
    assert (told["turned_away"]["code"], told["turned_away"]["status"]) == ("invalid_api_key", 401)
    assert told["cut"]["outcome"] == "engine_lost"
    assert told["left"]["outcome"] == "client_left"
    assert all(re.fullmatch(r"2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"]) for line in lines)
    # No byte that a terminal would obey, and each line stays one line.
    assert not set(text) & {chr(c) for c in (*range(10), *range(11, 32), 127, 0x2028)}


def test_messages_are_one_line_each():
    """A message with line breaks and escapes, an exception beside it: JSON is one line, text has no control characters but in the traceback's own."""
    record = logging.LogRecord("vram.gateway", logging.ERROR, "f", 1, "bad\r\n\x1b[2Jname %s", ("x\x00y",), None)
    line = JsonLines().format(record)
    assert json.loads(line)["message"] == "bad\\r\\n\\x1b[2Jname x\\x00y"
    assert "\n" not in line
    assert not set(TextLines().format(record)) & {"\r", "\n", "\x1b", "\x00"}
    try:
        int("why")
    except ValueError:
        record.exc_info = sys.exc_info()
    assert "ValueError: invalid literal" in json.loads(JsonLines().format(record))["exception"]


def test_a_log_that_nobody_reads_holds_up_nothing(caplog):
    """While a listener is stuck, ended requests are taken in no time up to a bound; beyond it they are counted, and told when it moves again."""
    free, got = threading.Event(), []

    def listener(ended):
        free.wait(10)
        got.extend(ended)

    after = After([listener], most_waiting=50)
    after.start()
    after.add(TurnedAway(0.0, "a", 400))
    time.sleep(0.5)
    began = time.monotonic()
    for _ in range(100):
        after.add(TurnedAway(0.0, "b", 400))
    assert time.monotonic() - began < 0.1
    assert after.lost == 50
    free.set()
    with caplog.at_level(logging.WARNING, "vram.gateway"):
        after.close()
    assert len(got) == 51
    assert "50 requests were not logged" in caplog.text


def test_a_line_that_nobody_reads_holds_up_nobody():
    """A pipe is full: who logs does not wait, whoever ends waits for a bounded time, and what did not fit is told when it is read again."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    full = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            full += os.write(write, b"x")
    os.set_blocking(write, True)
    log, lines = logging.getLogger("stuck"), Lines(write, most_waiting=20)
    log.propagate = False
    log.addHandler(lines)
    log.error("first")
    while not lines._waiting.empty():
        time.sleep(0.001)
    began = time.monotonic()
    for i in range(30):
        log.error("line %d", i)
    assert time.monotonic() - began < 1
    assert lines.lost == 10
    data = b""
    while b"line 19\n" not in data:
        data += os.read(read, 65536)
    assert data[full:].decode().split("\n") == ["first", "10 lines were lost: the log is written too slowly", *(f"line {i}" for i in range(20)), ""]
    log.error("last")
    lines.flush()
    assert os.read(read, 100) == b"last\n"
    log.removeHandler(lines)
    os.close(read)
    os.close(write)


def test_a_listener_that_fails_keeps_nobody_from_the_others(caplog):
    """An exception in one is logged; the next one gets all the same."""
    got = []

    def broken(_):
        raise OSError("no pipe")

    after = After([broken, got.extend])
    after.add(TurnedAway(0.0, "a", 400))
    after.hand_on()
    assert len(got) == 1
    assert "no pipe" in caplog.text


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_the_program_logs_nothing_but_json(tmp_path):
    """`vram serve --log-json` writes JSON lines to stderr and nothing to stdout, from its start to its end."""
    with serving(tmp_path, pools, store=None) as (_, engine):
        (tmp_path / "mine.toml").write_text(pools(engine))
        env = {**os.environ, "HF_HUB_OFFLINE": "1", "VRAM_GATEWAY_DB": str(tmp_path / "x.db"), "VRAM_ADMIN_TOKEN_FILE": str(tmp_path / "token")}
        command = [sys.executable, "-m", "vram", "serve", str(tmp_path / "mine.toml"), "--port", "0", "--admin-port", "0", "--log-json"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
        try:
            first = json.loads(process.stderr.readline())
            assert first["message"].startswith("serving m on http://127.0.0.1:")
        finally:
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert out == ""
    assert all(json.loads(line)["event"] == "message" for line in err.splitlines())


def test_every_answer_says_what_was_done(tmp_path):
    """The response's headers: request id always and a client's own kept, pool and lease when admitted, queue time when it waited, fallbacks and the cut limit."""

    async def test():
        async with MockEngine(chunks=20, delay_seconds=0.02) as small, MockEngine() as large:
            text = pools(small, per_pool="settings = { max_num_seqs = 1, context_tokens = 1024 }") + pools(large, names=["big"]).replace('"p0"', '"p1"')
            text += '[[routes]]\nmodel = "m"\npools = ["p0"]\nfallback = { models = ["big"], least_output_tokens = 16 }\n[[routes]]\nmodel = "big"\npools = ["p1"]\n'
            text += '[[routes]]\nmodel = "two"\npools = ["p0", "p1"]\nfallback = { larger_pool = true }\n[[routes]]\nmodel = "short"\npools = ["p0"]\nfallback = { least_output_tokens = 16 }\n'
            async with running(tmp_path, text) as gateway:
                status, headers, _ = await ask(gateway, chat(), headers="x-request-id: mine.1\r\n")
                assert (status, headers["x-request-id"], headers["x-vram-pool"]) == (200, "mine.1", "p0")
                assert int(headers["x-vram-lease-bytes"]) > 0
                assert not {"x-vram-queue-seconds", "x-vram-fallback", "x-vram-max-tokens"} & set(headers)
                _, headers, _ = await ask(gateway, chat(), headers="x-request-id: not\tmine\r\n")
                assert re.fullmatch(r"[0-9a-f-]+", headers["x-request-id"])
                running_now = asyncio.create_task(ask(gateway, chat("short", stream=True)))
                await asyncio.sleep(0.1)
                _, headers, _ = await ask(gateway, chat("short"))
                assert 0.05 < float(headers["x-vram-queue-seconds"]) < 5
                await running_now
                assert (await ask(gateway, chat("two", words=2000)))[1]["x-vram-fallback"] == "larger_pool"
                assert (await ask(gateway, chat(words=2000)))[1]["x-vram-fallback"] == "other_model"
                _, headers, _ = await ask(gateway, chat("short", max_tokens=5000))
                assert headers["x-vram-fallback"] == "shorter_output"
                assert int(headers["x-vram-max-tokens"]) == small.bodies[-1]["max_tokens"] < 1024
                for body in (chat("nobody"), chat("short", words=5000)):
                    status, headers, _ = await ask(gateway, body)
                    assert status in {400, 404}
                    assert headers["x-request-id"]
                    assert "x-vram-pool" not in headers

    run(test())


def test_spans_follow_the_conventions(tmp_path):
    """A span for each request with the GenAI names, its real begin and end, the client's trace as its parent, an error's type, and no prompt."""
    pytest.importorskip("opentelemetry.sdk", reason="the otel extra is not installed")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai
    from opentelemetry.trace import SpanKind, StatusCode

    from vram.gateway.spans import Spans

    kept, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))

    async def test():
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        spans = Spans(provider)
        options = {"listeners": (spans,), "begin_span": spans.begin}
        async with MockEngine(chunks=5, delay_seconds=0.02) as engine, running(tmp_path, pools(engine), **options) as gateway:
            await ask(gateway, chat(stream=True, max_tokens=40, words=3), headers=f"traceparent: {parent}\r\n")
            await ask(gateway, chat("nobody"))

    began = time.time_ns()
    run(test())
    ok, refused = kept.get_finished_spans()
    known = {value for name, value in vars(gen_ai).items() if name.startswith("GEN_AI_")}
    assert {name for span in (ok, refused) for name in span.attributes if name.startswith("gen_ai.")} <= known
    assert (ok.name, ok.kind, ok.status.status_code) == ("chat m", SpanKind.CLIENT, StatusCode.UNSET)
    assert f"{ok.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert f"{ok.parent.span_id:016x}" == "b7ad6b7169203331"
    assert began < ok.start_time < ok.end_time < time.time_ns()
    # Five events 20 ms apart.
    assert ok.end_time - ok.start_time > 80e6
    assert ok.attributes[gen_ai.GEN_AI_PROVIDER_NAME] == "vllm"
    assert ok.attributes[gen_ai.GEN_AI_REQUEST_MAX_TOKENS] == 40
    assert (ok.attributes[gen_ai.GEN_AI_USAGE_INPUT_TOKENS], ok.attributes[gen_ai.GEN_AI_USAGE_OUTPUT_TOKENS]) == (10, 5)
    assert 0.01 < ok.attributes[gen_ai.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK] < 2
    assert (refused.status.status_code, refused.attributes["error.type"]) == (StatusCode.ERROR, "model_not_found")
    assert MODEL not in str(refused.attributes)
    assert "word" not in str([dict(s.attributes) for s in (ok, refused)])


@pytest.mark.parametrize(
    ("given", "trace", "sampled"),
    [
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "0af7651916cd43dd8448eb211c80319c", True),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", "0af7651916cd43dd8448eb211c80319c", False),
        ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", None, True),
        ("", None, True),
    ],
)
def test_an_engines_spans_hang_beneath_the_gateways(tmp_path, given, trace, sampled):
    """The engine gets the id of the span that is exported, in the client's trace where it has one, as sampled as that; also at a second replica."""
    pytest.importorskip("opentelemetry.sdk", reason="the otel extra is not installed")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from opentelemetry.trace import get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    from vram.gateway.spans import Spans

    kept, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    spans, heads = Spans(provider), []

    async def test():
        async with MockEngine() as one, MockEngine() as two:
            text = pools(one).replace(f'["{one.url}"]', f'["{one.url}", "{two.url}"]')
            async with running(tmp_path, text, listeners=(spans,), begin_span=spans.begin) as gateway:
                while not (one.probes and two.probes):  # noqa: ASYNC110  (a few looks)
                    await asyncio.sleep(0.05)
                one.behaviour = two.behaviour = "busy-503"
                one.heads.clear()
                two.heads.clear()
                assert (await ask(gateway, chat(stream=True), headers=f"traceparent: {given}\r\n" if given else ""))[0] == 503
                heads.extend(h.decode() for e in (one, two) for h in e.heads if h.startswith(b"POST /v1/chat"))

    run(test())
    # The engine's side of it, as its own SDK reads it.
    told = {next(line.partition(": ")[2] for line in head.split("\r\n") if line.lower().startswith("traceparent:")) for head in heads}
    assert len(heads) > 1
    (sent,) = [get_current_span(TraceContextTextMapPropagator().extract({"traceparent": one})).get_span_context() for one in told]
    assert sent.trace_flags.sampled is sampled
    assert trace is None or f"{sent.trace_id:032x}" == trace
    assert f"{sent.span_id:016x}" != given[36:52]
    exported = kept.get_finished_spans()
    if not sampled:
        assert exported == ()
        return
    (ours,) = exported
    assert (ours.context.trace_id, ours.context.span_id) == (sent.trace_id, sent.span_id)
    assert (f"{ours.parent.span_id:016x}" == given[36:52]) if trace else ours.parent is None


def test_spans_arrive_at_a_collector(tmp_path, monkeypatch):
    """`--otel` sends OTLP over HTTP where OTEL_EXPORTER_OTLP_ENDPOINT says: a collector reads them with OpenTelemetry's own protobuf."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the otel extra is not installed")
    import gzip
    from http.server import BaseHTTPRequestHandler, HTTPServer

    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    from vram.gateway.spans import otlp_spans

    got = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.path, gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    spans, end = otlp_spans()

    async def test():
        async with MockEngine() as engine, running(tmp_path, pools(engine), listeners=(spans,), begin_span=spans.begin) as gateway:
            await ask(gateway, chat())

    run(test())
    end()
    server.shutdown()
    server.server_close()
    ((path, body),) = got
    assert path == "/v1/traces"
    (resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
    assert {a.key: a.value.string_value for a in resource.resource.attributes}["service.name"] == "vram-gateway"
    (span,) = resource.scope_spans[0].spans
    assert span.name == "chat m"
