#!/usr/bin/env bash
# under-load.sh RUNS COMMAND…: runs COMMAND so many times in a row, beside one
# busy loop for each core, which it starts and ends itself. Each run's output
# goes to .build/under-load-N.log, its last line to the terminal. It ends with
# the first run that fails, and prints the end of its log.
set -euo pipefail

runs=$1
shift
mkdir -p .build

busy=()
command=
finish() {
  status=$?
  trap - EXIT INT TERM
  if [ -n "$command" ] && kill -0 "$command" 2>/dev/null; then
    kill -TERM "$command"
    wait "$command" || true
  fi
  kill "${busy[@]}" 2>/dev/null || true
  wait "${busy[@]}" 2>/dev/null || true
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

for _ in $(seq "$(nproc)"); do
  (while :; do :; done) &
  busy+=($!)
done
echo "under load: ${#busy[@]} busy loops on $(nproc) processors, $runs runs of: $*"

for run in $(seq "$runs"); do
  log=.build/under-load-$run.log
  start=$SECONDS
  # In the background, so that a signal is answered at once.
  "$@" >"$log" 2>&1 &
  command=$!
  status=0
  wait "$command" || status=$?
  command=
  printf 'run %s of %s, %s s, load %s: %s\n' "$run" "$runs" "$((SECONDS - start))" "$(cut -d' ' -f1 /proc/loadavg)" \
    "$(grep -E '^[a-z-]+: [0-9]+ checked' "$log" | paste -sd';' - || true)"
  if [ "$status" -ne 0 ]; then
    tail -n 300 "$log"
    echo "under load: run $run of $runs failed, its whole output is in $log"
    exit 1
  fi
done
echo "under load: $runs checked, 0 failed"
