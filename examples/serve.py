"""A model served on this machine, from nothing: an engine is made where none is, a tiny model is planned, proved, asked, and its usage told.

make demo

The model has random weights: what it says is noise. All else – plan, memory, requests, tokens, money – is real. Without llama-server on PATH
(or in VRAM_LLAMA_SERVER), llama-cpp-python is compiled into .venv-engine, once: three minutes on two idle cores, a C++ compiler is needed.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENGINE = ROOT / ".venv-engine"
PACKAGE = "llama-cpp-python[server]==0.3.36"
# Compiled for this machine, quickly rather than well: the demo's model is tiny. No pictures, no TLS: nothing here needs them.
BUILD = "-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF -DLLAMA_OPENSSL=OFF -DCMAKE_CXX_FLAGS_RELEASE=-O1"
VRAM = [sys.executable, "-m", "vram"]


def say(text: str = "") -> None:
    """A line, at once."""
    print(text, flush=True)


def command(words: list[str]) -> None:
    """Show what is typed."""
    say(f"\n\x1b[1m$ vram {' '.join(words)}\x1b[0m" if sys.stdout.isatty() else f"\n$ vram {' '.join(words)}")


def here() -> bool:
    """Whether an engine is here that loads a GGUF."""
    return bool(os.environ.get("VRAM_LLAMA_SERVER") or shutil.which("llama-server"))


def build() -> bool:
    """Compile llama-cpp-python into an environment of its own. Returns whether it is there."""
    python = ENGINE / "bin" / "python"
    if (ENGINE / ".done").exists():
        return True
    if not (shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")):
        say("No llama-server is on PATH, and no C++ compiler is here to make an engine: the demo ends with the plan.")
        say("Install llama.cpp (brew install llama.cpp, or a release of github.com/ggml-org/llama.cpp), or a compiler, and run it again.")
        return False
    say(f"No llama-server is on PATH: {PACKAGE} is compiled into {ENGINE.name}, once; some minutes.")
    subprocess.run([sys.executable, "-m", "venv", ENGINE], check=True)
    env = {**os.environ, "CMAKE_ARGS": f"{os.environ.get('CMAKE_ARGS', '')} {BUILD}", "CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count() or 2)}
    words = [python, "-m", "pip", "install", "--disable-pip-version-check", "--verbose", PACKAGE]
    began, last, tail = time.monotonic(), 0.0, []
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=env) as process:
        for line in process.stdout or ():
            tail = [*tail[-30:], line]
            step = re.search(r"\[(\d+)/(\d+)\]", line)
            if step and time.monotonic() - last > (1 if sys.stdout.isatty() else 20):
                last = time.monotonic()
                done, total, seconds = int(step[1]), int(step[2]), last - began
                text = f"  compiled {done} of {total}, {seconds:.0f} s, about {seconds / max(done, 1) * (total - done):.0f} s left"
                print(f"\r\x1b[K{text}" if sys.stdout.isatty() else text, end="" if sys.stdout.isatty() else "\n", flush=True)
    if sys.stdout.isatty():
        say("\r\x1b[K")
    if process.returncode:
        say("".join(tail) + "\nIt could not be compiled: the demo ends with the plan.")
        return False
    (ENGINE / ".done").touch()
    say(f"  made in {time.monotonic() - began:.0f} s")
    return True


def stream(url: str, question: str) -> dict[str, int]:
    """Ask, print what comes as it comes; the usage."""
    body = {"model": "demo", "messages": [{"role": "user", "content": question}], "max_tokens": 48, "stream": True, "stream_options": {"include_usage": True}}
    request = urllib.request.Request(f"{url}/chat/completions", data=json.dumps(body).encode(), headers={"Content-Type": "application/json"})
    usage: dict[str, int] = {}
    with urllib.request.urlopen(request, timeout=120) as answer:
        for line in answer:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            usage = event.get("usage") or usage
            for choice in event.get("choices", ()):
                text = choice.get("delta", {}).get("content") or ""
                print("".join(c if c.isprintable() else "·" for c in text), end="", flush=True)
    say()
    return usage


def main() -> int:
    """Plan, make an engine, serve, ask, account, end."""
    folder = Path(tempfile.mkdtemp(prefix="vram-demo-"))
    env = {**os.environ, **{f"XDG_{name}_HOME": str(folder) for name in ("STATE", "DATA")}, "HF_HUB_OFFLINE": "1"}
    engine = [] if here() else ["--gpu", "cpu", "--engine", "llama_cpp.server"]
    if engine:
        env["VRAM_LLAMA_CPP_PYTHON"] = str(ENGINE / "bin" / "python")
    wanted = ["up", "demo", *engine, "--dollars-per-hour", "0.40"]
    say("From a model's name to an answer: a tiny model with random weights (what it says is noise), a real engine.")
    command([*wanted, "--dry-run"])
    subprocess.run([*VRAM, *wanted, "--dry-run"], env=env, check=True)
    say()
    if engine and not build():
        return 0
    command(wanted)
    with subprocess.Popen([*VRAM, *wanted, "--port", "0", "--admin-port", "0"], env=env, stderr=subprocess.PIPE, text=True, errors="replace") as process:
        try:
            url = ""
            for line in process.stderr or ():
                say(f"  {line.rstrip()}")
                if found := re.search(r"on (http://\S+/v1)", line):
                    url = found[1]
                    break
            if not url:
                return process.wait() or 1
            say('\n$ curl -N …/v1/chat/completions -d \'{"model": "demo", "messages": [{"role": "user", "content": "What is VRAM?"}], …}\'')
            began = time.monotonic()
            usage = stream(url, "What is VRAM?")
            counted = f"{usage['prompt_tokens']} prompt tokens, {usage['completion_tokens']} made" if usage else "what it used is told below"
            say(f"  noise, as said: {counted}, {time.monotonic() - began:.2f} s")
            command(["ps"])
            subprocess.run([*VRAM, "ps"], env=env, check=True)
            time.sleep(1.5)  # usage is written once a second
            command(["usage"])
            subprocess.run([*VRAM, "usage"], env=env, check=True)
            command(["down"])
            subprocess.run([*VRAM, "down"], env=env, check=True)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            shutil.rmtree(folder, ignore_errors=True)
    say("\nYours: .venv/bin/vram up ./model.gguf --context 32k     (vram up --help, docs/up.md)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
