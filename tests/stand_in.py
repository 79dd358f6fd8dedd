"""A scripted stand-in for an engine: prints a real engine's start-up lines, serves the OpenAI API, and fails as it is told. Standard library only.

    stand_in.py KIND ARGUMENTS…      KIND: llama-server, sglang, vllm, llama_cpp, ollama

As `ollama serve` it listens where OLLAMA_HOST says, prints STAND_IN_SAYS when a request makes it load STAND_IN_MODEL, and writes the variables
that it was started with to STAND_IN_VARIABLES; STAND_IN_EMBEDS: its model only embeds; STAND_IN_LOAD_FAILS: it cannot be loaded.

What it does beside that stands in variables: STAND_IN_SAYS (a file whose lines it prints), STAND_IN_COUNTER (a file that counts its starts),
STAND_IN_FAILS (so many starts fail, printing STAND_IN_LAST and ending with code 1), STAND_IN_NEVER_READY, STAND_IN_MOST_TOKENS (a longer prompt
kills it, with STAND_IN_LAST), STAND_IN_CHUNKS and STAND_IN_DELAY (of a stream), STAND_IN_THINKS (seconds before an answer), STAND_IN_DIES_AFTER (seconds), STAND_IN_HELPER (it starts a
process of its own that ignores SIGTERM, in a session of its own).
"""

import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

KIND, ARGUMENTS = sys.argv[1], sys.argv[2:]
ENV = os.environ.get


def option(*names, default=""):
    return next((ARGUMENTS[i + 1] for i, word in enumerate(ARGUMENTS[:-1]) if word in names), default)


def say(text):
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def counted() -> int:
    path = Path(ENV("STAND_IN_COUNTER", os.devnull))
    number = int(path.read_text() or 0) + 1 if path.is_file() else 1
    if path != Path(os.devnull):
        path.write_text(str(number))
    return number


SGLANG_METRICS = """# HELP sglang:num_running_reqs The number of running requests.
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{model_name="m"} 0.0
# HELP sglang:num_queue_reqs The number of requests in the waiting queue.
# TYPE sglang:num_queue_reqs gauge
sglang:num_queue_reqs{model_name="m"} 0.0
# HELP sglang:token_usage The token usage.
# TYPE sglang:token_usage gauge
sglang:token_usage{model_name="m"} 0.0
"""


LOADED: list[str] = []


def load(name: str) -> tuple[int, dict]:
    """As Ollama answers a request for a model of that name: status and error."""
    if name != ENV("STAND_IN_MODEL", ""):
        return 404, {"error": f"model '{name}' not found"}
    if not LOADED:
        for line in Path(ENV("STAND_IN_SAYS", os.devnull)).read_text().splitlines():
            say(line)
        if ENV("STAND_IN_LOAD_FAILS"):
            say(ENV("STAND_IN_LAST", "cudaMalloc failed: out of memory"))
            return 500, {"error": "llama-server process has terminated: exit status 1: cudaMalloc failed: out of memory"}
        LOADED.append(name)
    return 200, {}


class Engine(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, document, status=200, kind="application/json"):
        data = document.encode() if isinstance(document, str) else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        if KIND == "ollama" and self.path == "/api/version":
            self.reply({"version": "0.32.15"})
        elif KIND == "ollama" and self.path == "/api/ps":
            self.reply({"models": [{"name": n, "size_vram": 1, "context_length": int(ENV("OLLAMA_CONTEXT_LENGTH", "0"))} for n in LOADED]})
        elif KIND == "ollama":
            self.reply({"error": "no such page"}, 404)
        elif self.path == "/health":
            self.reply({"status": "ok"})
        elif self.path == "/v1/models":
            self.reply({"object": "list", "data": [{"id": option("--alias", "--served-model-name", "--model_alias"), "object": "model"}]})
        elif self.path == "/metrics" and KIND == "sglang":
            self.reply(SGLANG_METRICS, kind="text/plain")
        elif self.path == "/get_server_info" and KIND == "sglang":
            self.reply({"max_total_num_tokens": int(ENV("STAND_IN_TOKENS", "38141")), "max_req_input_len": 8186})
        else:
            self.reply({"error": "no such page"}, 404)

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        if KIND == "ollama":
            status, error = (
                (400, {"error": "does not support generate"}) if ENV("STAND_IN_EMBEDS") and self.path == "/api/generate" else load(asked.get("model"))
            )
            if status != 200 or self.path.startswith("/api/"):
                self.reply(error or {"done": True, "done_reason": "load"}, status)
                return
        prompt = asked.get("prompt", asked.get("messages"))
        tokens = len(prompt) if isinstance(prompt, list) and prompt and isinstance(prompt[0], int) else len(json.dumps(prompt)) // 4 + 1
        if tokens > int(ENV("STAND_IN_MOST_TOKENS", "1000000000")):
            say(ENV("STAND_IN_LAST", "out of memory"))
            os._exit(1)
        if seen := ENV("STAND_IN_SEEN"):
            with Path(seen).open("a") as file:
                file.write(json.dumps({"path": self.path, "tokens": tokens, "max_tokens": asked.get("max_tokens")}) + "\n")
        time.sleep(float(ENV("STAND_IN_THINKS", "0")))
        made = min(asked.get("max_tokens") or int(ENV("STAND_IN_CHUNKS", "5")), int(ENV("STAND_IN_CHUNKS", "5")))
        usage = {"prompt_tokens": tokens, "completion_tokens": made, "total_tokens": tokens + made}
        if not asked.get("stream"):
            text = "w " * made
            choice = {"index": 0, "text": text, "message": {"role": "assistant", "content": text}, "finish_reason": "length"}
            self.reply({"id": "c", "object": "text_completion", "choices": [choice], "usage": usage})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        events = [{"id": "c", "choices": [{"index": 0, "delta": {"content": f"w{i} "}, "finish_reason": None}]} for i in range(made)]
        for event in [*events, {"id": "c", "choices": [], "usage": usage}, "[DONE]"]:
            data = b"data: " + (event if isinstance(event, str) else json.dumps(event)).encode() + b"\n\n"
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
            self.wfile.flush()
            time.sleep(float(ENV("STAND_IN_DELAY", "0")))
        self.wfile.write(b"0\r\n\r\n")


def main():
    if ARGUMENTS[:1] == ["-c"]:
        # Asked as a Python for the version of its package.
        print(ENV("STAND_IN_VERSION", "version 0.5.3"))
        return
    if "--version" in ARGUMENTS:
        say(ENV("STAND_IN_VERSION", "version: 0.6.0-dev (build 11434, commit unknown)"))
        return
    if "--help" in ARGUMENTS:
        print("--fit [on|off]\n--cache-ram N\n--no-webui\n--offline")
        return
    number = counted()
    host, port = option("--host", default="127.0.0.1"), option("--port", default="8000")
    if KIND == "ollama":
        host, _, port = ENV("OLLAMA_HOST", "").rpartition(":")
        if seen := ENV("STAND_IN_VARIABLES"):
            Path(seen).write_text(json.dumps({n: v for n, v in os.environ.items() if n.startswith(("OLLAMA_", "LLAMA_", "CUDA_", "HIP_"))}))
        say(f'time=2026-08-21T18:48:22.000Z level=INFO source=routes.go:2008 msg="Listening on {host}:{port} (version 0.32.15)"')
    elif says := ENV("STAND_IN_SAYS"):
        for line in Path(says).read_text().splitlines():
            say(line)
    if ENV("STAND_IN_HELPER"):
        code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        helper = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
        Path(ENV("STAND_IN_HELPER")).write_text(str(helper.pid))
    if number <= int(ENV("STAND_IN_FAILS", "0")):
        say(ENV("STAND_IN_LAST", "out of memory"))
        sys.exit(1)
    if ENV("STAND_IN_NEVER_READY"):
        time.sleep(600)
    if after := ENV("STAND_IN_DIES_AFTER"):
        threading.Timer(float(after), lambda: (say(ENV("STAND_IN_LAST", "it dies as it was told")), os._exit(3))).start()
    server = ThreadingHTTPServer((host, int(port)), Engine)
    server.daemon_threads = True
    server.serve_forever()


main()
