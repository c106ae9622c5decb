#!/usr/bin/env bash
# under-load.sh RUNS COMMAND…: runs COMMAND so many times in a row, beside one
# busy loop for each core, which it starts and ends itself; BUSY sets another
# number, 0 on a machine that is kept busy already. Each run's output goes to
# .build/under-load-N.log, its last line to the terminal, with the share of the
# processors' time that nobody used: 0 % shows that they were kept busy. It ends
# with the first run that fails, and prints the end of its log.
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

# idle prints the processors' unused and whole time since the machine started.
idle() { awk '/^cpu / { for (i = 2; i <= 9; i++) all += $i; print $5 + $6, all }' /proc/stat; }

for _ in $(seq "${BUSY:-$(nproc)}"); do
  (while :; do :; done) &
  busy+=($!)
done
echo "under load: ${#busy[@]} busy loops on $(nproc) processors, $runs runs of: $*"

for run in $(seq "$runs"); do
  log=.build/under-load-$run.log
  start=$SECONDS
  read -r idle_before all_before <<<"$(idle)"
  # In the background, so that a signal is answered at once.
  "$@" >"$log" 2>&1 &
  command=$!
  status=0
  wait "$command" || status=$?
  command=
  read -r idle_after all_after <<<"$(idle)"
  printf 'run %s of %s, %s s, load %s, idle %s %%: %s\n' "$run" "$runs" "$((SECONDS - start))" \
    "$(cut -d' ' -f1 /proc/loadavg)" "$((100 * (idle_after - idle_before) / (all_after - all_before)))" \
    "$(grep -E '^[a-z-]+: [0-9]+ checked' "$log" | paste -sd';' - || true)"
  if [ "$status" -ne 0 ]; then
    tail -n 300 "$log"
    echo "under load: run $run of $runs failed, its whole output is in $log"
    exit 1
  fi
done
echo "under load: $runs checked, 0 failed"
