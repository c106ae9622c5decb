#!/usr/bin/env bash
# eval-diagnosis.sh: has the bundles of tests/diagnosis diagnosed by the rules, by the scripted liar, and by the model that
# MODEL_BASE_URL, MODEL_API, MODEL_NAME, MODEL_KEY_FILE and MODEL_PRICES name, if there is one. BACKSTOP and MODELS are the
# programs. The key is copied to a folder that only its owner can read, which is removed in the end.
set -euo pipefail

umask 077
folder=$(mktemp -d)
server=
finish() {
  status=$?
  trap - EXIT INT TERM
  [ -z "$server" ] || { kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; }
  rm -rf "$folder"
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

# chain RUNG MODEL URL API [PRICES]: a chain of one rung, to a file of that name. Without prices it costs nothing.
chain() {
  local prices=${5:-0/0}
  prices=", prices: {input: \"${prices%/*}\", output: \"${prices#*/}\"}"
  cat >"$folder/$1.yaml" <<YAML
apiVersion: backstop.dev/v1alpha1
kind: ModelChain
metadata: {name: eval}
spec:
  deadlineSeconds: 240
  probe: {intervalSeconds: 0}
  rungs:
    - name: $1
      model: "$2"
      upstreams:
        - {name: $1, url: "$3", api: $4, credentials: {secret: $1}$prices,
           timers: {responseHead: 200000, firstEvent: 200000, firstContent: 200000, idle: 60000}}
YAML
}

evaluate() {
  echo
  echo "== $1 =="
  shift
  "$BACKSTOP" models eval --bundles tests/diagnosis/bundles --expected tests/diagnosis/expected.yaml \
    ${ONLY:+--only "$ONLY"} ${MISSES:+--misses} --secrets "$folder/secrets" "$@"
}

evaluate 'the rules alone'

mkdir -p "$folder/secrets/liar"
echo any >"$folder/secrets/liar/token"
echo '{"seed": 1, "rules": [{"answer": "lie", "lie": "random"}]}' >"$folder/script.json"
"$MODELS" --listen 127.0.0.1:0 --script "$folder/script.json" >"$folder/listening" 2>"$folder/models.log" &
server=$!
for _ in $(seq 100); do
  grep -q '^listening on ' "$folder/listening" && break
  kill -0 "$server" 2>/dev/null || { cat "$folder/models.log" >&2; exit 1; }
  sleep 0.1
done
chain liar liar "http://$(sed -n 's/^listening on //p' "$folder/listening")/v1" OpenAiChat
evaluate 'the scripted liar (demo/models), each time another lie' --chain "$folder/liar.yaml"

[ -n "$MODEL_BASE_URL" ] || {
  echo
  echo 'A model of yours: MODEL_BASE_URL, MODEL_API, MODEL_NAME, MODEL_KEY_FILE, and MODEL_PRICES=INPUT/OUTPUT outside of this machine.'
  exit 0
}
: "${MODEL_API:?names the API: AnthropicMessages, OpenAiChat, OpenAiResponses or BedrockConverse}" "${MODEL_NAME:?}"
mkdir -p "$folder/secrets/model"
if [ -n "$MODEL_KEY_FILE" ]; then cat "$MODEL_KEY_FILE" >"$folder/secrets/model/token"; else echo none >"$folder/secrets/model/token"; fi
chain model "$MODEL_NAME" "$MODEL_BASE_URL" "$MODEL_API" "$MODEL_PRICES"
evaluate "$MODEL_NAME at $MODEL_BASE_URL" --chain "$folder/model.yaml" --parallel "$PARALLEL"
