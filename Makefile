# Everything is installed into environments of the project's own; nothing but Python >= 3.11 and make is needed.
PYTHON ?= python3
VENV := .venv
FULL := .venv-full
SOURCES := $(shell find src -name '*.py' -o -name '*.toml' -o -name '*.json' -o -name py.typed) pyproject.toml

.PHONY: demo test test-all test-compiled oracle-llama-cpp oracle-vllm oracle-replay lint fit bench bench-gateway bench-replay bench-vllm bench-up chaos fuzz truth clean

# Plans for real models on the GPUs of this machine, or on a named one when there is none; then a tiny model served by a real engine, which is
# compiled once (.venv-engine) where no llama-server is installed.
demo: $(VENV)/.serve
	$(VENV)/bin/python examples/demo.py
	$(VENV)/bin/python examples/serve.py

# The built wheel is what gets tested.
test: $(VENV)/.test
	$(VENV)/bin/python -m pytest

# Warnings are errors in our own tests only: the oracles' packages warn of each other.
# Adds what needs heavier parts: linters, types, the libraries that the readers and families are held against, fuzzing.
test-all: $(FULL)/.full lint
	$(FULL)/bin/python -m pytest tests
	$(MAKE) test-compiled
	VRAM_LLAMA_CPP=$$(PYTHON=$(FULL)/bin/python sh truth/oracle/build_llama_cpp.sh) && export VRAM_LLAMA_CPP && \
	$(FULL)/bin/python -m pytest --timeout 900 -W ignore::DeprecationWarning -W ignore::FutureWarning -W ignore::UserWarning --ignore-glob='tests/oracle/test_vllm_*' tests/oracle
	test "$$(uname -m)" != x86_64 || $(MAKE) oracle-vllm
	$(MAKE) fuzz

# The package with its hot path compiled: built from a copy, so that no compiled file comes to lie in the source tree.
COMPILED = rm -rf build/compiled && mkdir -p build/compiled/src build/compiled/site && \
	cp -r src pyproject.toml README.md LICENSE build/compiled/src/ && \
	HATCH_BUILD_HOOK_ENABLE_MYPYC=1 $(FULL)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --target build/compiled/site ./build/compiled/src

# The gateway's tests on its compiled hot path.
test-compiled: $(FULL)/.full
	$(COMPILED)
	PYTHONPATH=build/compiled/site $(FULL)/bin/python -m pytest -p no:cacheprovider tests/test_gateway*.py tests/test_admission.py tests/test_forecast.py tests/test_vram_time.py

# The gateway beside nginx and the Rust routers (from PyPI, each in an environment of its own), its bars and what it shows: some ten minutes.
# Needs Linux, wrk, a C compiler and two quiet cores; nginx where it is installed.
bench-gateway: $(FULL)/.full
	$(COMPILED)
	for router in sglang-router==0.3.2 vllm-router==0.1.17; do test -d build/peers/$${router%%=*} || { $(PYTHON) -m venv build/peers/$${router%%=*} && \
	build/peers/$${router%%=*}/bin/python -m pip install --quiet --disable-pip-version-check $$router; } || exit 1; done
	SGLANG_ROUTER_BIN=build/peers/sglang-router/bin VLLM_ROUTER_BIN=build/peers/vllm-router/bin $(FULL)/bin/python benchmarks/gateway/run.py --compiled $(CURDIR)/build/compiled/site
	$(FULL)/bin/python benchmarks/gateway/leave.py

# Two hours of real requests against engines with a true KV cache: the gateway beside round robin and least requests (some twenty minutes).
bench-replay: $(FULL)/.full
	$(COMPILED)
	$(FULL)/bin/python benchmarks/gateway/replay.py --compiled $(CURDIR)/build/compiled/site --json build/replay.json

# Minutes of load on a real vLLM with a tight pool, behind the gateway and alone: an hour; its steps are paced, so other work hardly shows.
bench-vllm: $(FULL)/.full
	VRAM_VLLM_PYTHON=$$(PYTHON=$(FULL)/bin/python truth/oracle/build_vllm.sh) && export VRAM_VLLM_PYTHON && \
	$(FULL)/bin/python benchmarks/gateway/vllm_load.py --json build/vllm_load.json

# A hundred thousand requests of clients that misbehave to engines that misbehave, through one gateway process: every ledger has to end at 0 (some minutes, Linux).
chaos: $(FULL)/.full
	$(FULL)/bin/python tests/chaos/run.py --json build/chaos.json

# A real llama.cpp alone, built once from its sdist and kept in ~/.cache/vram-ci (five to ten minutes on two cores); test-all asks it, too.
oracle-llama-cpp: $(FULL)/.full
	VRAM_LLAMA_CPP=$$(PYTHON=$(FULL)/bin/python truth/oracle/build_llama_cpp.sh) && export VRAM_LLAMA_CPP && \
	$(FULL)/bin/python -m pytest --timeout 900 -s tests/oracle/test_llama_cpp_*.py

# A real vLLM for the CPU, installed once into ~/.cache/vram-ci (three minutes, 4 GB), asked for hundreds of layouts, its scheduler stepped by hand, and started
# nine times (eleven minutes).
oracle-vllm: $(FULL)/.full
	VRAM_VLLM_PYTHON=$$(PYTHON=$(FULL)/bin/python truth/oracle/build_vllm.sh) && export VRAM_VLLM_PYTHON && \
	$(FULL)/bin/python -m pytest --timeout 1600 -s tests/oracle/test_vllm_*.py

# A real vLLM server timed beside a replay of it, seven minutes: for a machine that does nothing else.
oracle-replay: $(FULL)/.full
	VRAM_VLLM_PYTHON=$$(PYTHON=$(FULL)/bin/python truth/oracle/build_vllm.sh) && export VRAM_VLLM_PYTHON && \
	VRAM_REPLAY=1 $(FULL)/bin/python -m pytest --timeout 1600 -s tests/oracle/test_vllm_replay.py

lint: $(FULL)/.full
	$(FULL)/bin/ruff check .
	$(FULL)/bin/ruff format --check .
	$(FULL)/bin/mypy

# A minute for each reader.
FUZZ_SECONDS ?= 60
fuzz: $(FULL)/.full
	mkdir -p build/fuzz
	for target in tests/fuzz/fuzz_*.py; do $(FULL)/bin/python $$target -artifact_prefix=build/fuzz/ -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=1024 -timeout=5 -verbosity=0 -print_final_stats=1 || exit 1; done

# How far plans are from what engines printed: writes truth/REPORT.md and its pictures.
truth: $(VENV)/.base
	$(VENV)/bin/python truth/report.py

# Fits the constants of speeds again to the rows in truth/speed: ten minutes of a busy machine, two of an idle one.
fit: $(FULL)/.full
	$(FULL)/bin/python -m pip install --quiet --disable-pip-version-check ".[fit]"
	$(FULL)/bin/python truth/speed/fit.py

# Whole commands beside peers in one run; then what peers and we expect of speeds beside what was measured.
bench: $(FULL)/.full
	$(FULL)/bin/python -m pip install --quiet --disable-pip-version-check ".[bench]"
	$(FULL)/bin/python benchmarks/run.py
	$(FULL)/bin/python benchmarks/speed.py
	$(FULL)/bin/python benchmarks/size.py
	$(FULL)/bin/python benchmarks/simulate.py
	$(FULL)/bin/python benchmarks/bulk.py

# What vram up adds to the start of a real llama-server, and what it takes when nothing is asked: a minute, on a quiet machine.
bench-up: $(FULL)/.full
	VRAM_LLAMA_SERVER=$$(PYTHON=$(FULL)/bin/python sh truth/oracle/build_llama_cpp.sh)/llama-server && export VRAM_LLAMA_SERVER && \
	$(FULL)/bin/python benchmarks/up.py

$(VENV)/.base: $(SOURCES)
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check .
	touch $@

$(VENV)/.serve: $(SOURCES)
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check ".[serve]"
	touch $@ $(VENV)/.base

$(VENV)/.test: $(SOURCES)
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check ".[test]"
	touch $@ $(VENV)/.base $(VENV)/.serve

# torch comes first and pinned: any other way to it pulls gigabytes of GPU libraries.
$(FULL)/.full: $(SOURCES)
	test -x $(FULL)/bin/python || $(PYTHON) -m venv $(FULL)
	$(FULL)/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(FULL)/bin/python -m pip install --quiet --disable-pip-version-check ".[test,lint,oracle,fuzz]"
	touch $@

clean:
	rm -rf $(VENV) $(FULL) .venv-engine build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
