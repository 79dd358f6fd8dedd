"""Asks llama.cpp what it reserves for caches of every architecture that it has: writes truth/llama_cpp/architectures.jsonl.

usage: llama_cpp_architectures.py LLAMA_CPP_TREE FOLDER_OF_libllama.so   (b11434; needs g++)

llama.cpp's own test of architectures (tests/test-llama-archs.cpp, MIT) holds a function that describes a small model of
each. It is cut out, changed so that layers, windows and head counts tell mistakes apart (12 layers, no stated pattern,
grouped queries), and compiled into a probe: each model is made without allocating (`llama_model_init_from_user`,
`no_alloc`), contexts are made of it, and `llama_get_memory_breakdown` gives their bytes.
Rows: arch, the metadata that shapes caches, and per context the settings and bytes.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "src")]

from vram.readers.gguf import read_gguf  # noqa: E402

EDITS = (
    ("const uint32_t n_ctx = 256;", "const uint32_t n_ctx = 4096;"),
    ("uint32_t n_layer = 2;", "uint32_t n_layer = arch == LLM_ARCH_BAILINGMOE3 ? 2 : 12;"),
    ("n_layer = 4; // hparams", "n_layer = 12; // hparams"),
    ("n_layer = 5; // need", "n_layer = 10; //"),
    ("n_layer = 22; //", "n_layer = 30; //"),
    ("n_layer = 3;", "n_layer = 12;"),
    ("il <= 1 ? 0 : n_ff", "il % 3 == 2 ? n_ff : 0"),
    ("il == 1 ? 0 : n_head", "il % 3 == 1 ? 0 : n_head"),
    ("    } else {\n        ms.add_kv(LLM_KV_ATTENTION_SLIDING_WINDOW_PATTERN, uint32_t(2));\n    }", "    }"),
    (
        "ms.add_kv(LLM_KV_ATTENTION_SLIDING_WINDOW_PATTERN, uint32_t(5));",
        "{ std::vector<uint32_t> p; for (uint32_t i = 0; i < n_layer; i++) p.push_back(i % 5 != 4); ms.add_kv(LLM_KV_ATTENTION_SLIDING_WINDOW_PATTERN, p); }",
    ),
    ("LLM_KV_ATTENTION_SHARED_KV_LAYERS,      uint32_t(0)", "LLM_KV_ATTENTION_SHARED_KV_LAYERS,      uint32_t(5)"),
    ("ms.add_kv(LLM_KV_FULL_ATTENTION_INTERVAL, uint32_t(2));", 'if (getenv("GQA")) ms.add_kv(LLM_KV_FULL_ATTENTION_INTERVAL, uint32_t(3));'),
    ("uint32_t n_head_kv = n_head;", 'uint32_t n_head_kv = n_head % 2 == 0 && getenv("GQA") ? n_head/2 : n_head;'),
)
HEAD = "\n".join(
    [
        f'#include "{h}"'
        for h in ("ggml-backend.h", "ggml.h", "gguf.h", "ggml-cpp.h", "llama.h", "llama-cpp.h", "llama-ext.h", "llama-arch.h", "llama-model-saver.h")
    ]
    + [f"#include <{h}>" for h in ("cinttypes", "cstdio", "cstdlib", "cstring", "string", "vector")]
)
MAIN = r"""
static void fill(struct ggml_tensor *, void *) {}
static bool quiet(float, void *) { return true; }
static void drop(ggml_log_level, const char *, void *) {}
int main(int argc, char ** argv) {
    if (argc == 1) { for (int i = 0; i < (int) LLM_ARCH_UNKNOWN; i++) printf("%s\n", llm_arch_name((llm_arch) i)); return 0; }
    llama_log_set(drop, nullptr);
    llama_backend_init();
    auto g = get_gguf_ctx(llm_arch_from_string(argv[1]), moe_mandatory(llm_arch_from_string(argv[1])));
    gguf_write_to_file(g.get(), argv[2], true);
    auto mp = llama_model_default_params();
    mp.progress_callback = quiet; mp.no_alloc = true; mp.load_mode = LLAMA_LOAD_MODE_NONE; mp.n_gpu_layers = 0;
    llama_model * m = llama_model_init_from_user(g.get(), fill, nullptr, mp);
    if (!m) return 1;
    struct { int n_ctx, n_seq, unified, fa, ub; ggml_type type; int full; } all[] = {
        {4096, 1, 0, 1, 512, GGML_TYPE_F16, 0}, {3000, 3, 0, 1, 128, GGML_TYPE_F16, 0}, {4096, 3, 1, 1, 256, GGML_TYPE_F16, 0},
        {8192, 2, 0, 1, 512, GGML_TYPE_F32, 1}, {4096, 1, 0, 0, 512, GGML_TYPE_F16, 0}, {4096, 1, 0, 1, 512, GGML_TYPE_Q8_0, 0}};
    for (auto & c : all) {
        auto p = llama_context_default_params();
        p.n_ctx = c.n_ctx; p.n_seq_max = c.n_seq; p.kv_unified = c.unified; p.n_ubatch = c.ub; p.n_batch = 2048; p.type_k = p.type_v = c.type; p.swa_full = c.full;
        p.flash_attn_type = c.fa ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED; p.n_outputs_max = c.n_seq;
        llama_context * x = llama_init_from_model(m, p);
        size_t n = 0;
        if (x) for (auto & [b, d] : llama_get_memory_breakdown(x)) n += d.context;
        printf("{\"n_ctx\":%d,\"n_parallel\":%d,\"kv_unified\":%d,\"fa\":%d,\"n_ubatch\":%d,\"n_batch\":2048,\"type_k\":\"%s\",\"type_v\":\"%s\",\"swa_full\":%d,\"ok\":%d,\"context\":%zu}\n",
            c.n_ctx, c.n_seq, c.unified, c.fa, c.ub, ggml_type_name(c.type), ggml_type_name(c.type), c.full, x ? 1 : 0, n);
        fflush(stdout);
        if (x) llama_free(x);
    }
    return 0;
}
"""
PREFIXES = ("attention.", "ssm.", "kda.", "wkv.", "shortconv.", "ple.", "hrm.")
KEYS = {"block_count", "embedding_length", "feed_forward_length", "context_length", "full_attention_interval", "leading_dense_block_count", "token_shift_count"}
KEYS |= {"hyper_connection.count", "expert_count", "expert_used_count"}


def compiled(tree: Path, libraries: Path, folder: Path) -> Path:
    source = (tree / "tests/test-llama-archs.cpp").read_text()
    describe = source[source.index("static gguf_context_ptr get_gguf_ctx") : source.index("static bool silent_model_load_progress")]
    experts = source[source.index("static bool moe_mandatory") : source.index("static bool arch_supported")]
    for old, new in EDITS:
        assert old in describe, old
        describe = describe.replace(old, new)
    (folder / "probe.cpp").write_text(HEAD + "\n" + describe + experts + MAIN)
    includes = [f"-I{tree / d}" for d in ("include", "ggml/include", "src")]
    libs = [f"-L{libraries}", "-lllama", "-lggml", "-lggml-base", f"-Wl,-rpath,{libraries}"]
    subprocess.run(["g++", "-std=c++17", "-O0", *includes, str(folder / "probe.cpp"), "-o", str(folder / "probe"), *libs], check=True)  # noqa: S607
    return folder / "probe"


def ask(probe: Path, arch: str, path: Path) -> list[dict[str, Any]]:
    """Contexts of one architecture; without grouped queries where llama.cpp's test model does not allow them."""
    best: list[dict[str, Any]] = []
    for more in ({"GQA": "1"}, {}):
        done = subprocess.run([str(probe), arch, str(path)], capture_output=True, text=True, timeout=300, check=False, env={**os.environ, **more})
        rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        if len(rows) >= len(best):
            best = rows
        if done.returncode == 0 and rows:
            break
    return best


def main() -> None:
    tree, libraries = (Path(a).resolve() for a in sys.argv[1:3])
    with tempfile.TemporaryDirectory() as name, (ROOT / "truth/llama_cpp/architectures.jsonl").open("w") as out:
        folder = Path(name)
        probe = compiled(tree, libraries, folder)
        for arch in subprocess.run([str(probe)], capture_output=True, text=True, check=True).stdout.split():
            path = folder / "model.gguf"
            rows = ask(probe, arch, path)
            if not rows:
                print("llama.cpp can't make its own test model of", arch)
                continue
            raw = path.read_bytes()
            header = read_gguf(lambda o, n, raw=raw: raw[o : o + n], len(raw), arch)
            kept = {k.removeprefix(arch + "."): v for k, v in header.metadata.items() if k.startswith(arch + ".")}
            kept = {k: v for k, v in kept.items() if (k in KEYS or k.startswith(PREFIXES)) and not isinstance(v, (float, bool))}
            out.write(json.dumps({"arch": arch, "metadata": kept, "contexts": rows}, separators=(",", ":")) + "\n")


main()
