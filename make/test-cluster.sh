#!/usr/bin/env bash
# test-cluster.sh SUITE…: the admission table and the cluster suite on the cluster
# that is up. With SHARDS=2 every other test of the suite runs on a second lab
# meanwhile, which this brings up and removes: most of them wait most of the
# time. Environment: MAKE, LAB, IMAGES (archives), SHARDS, and what the suite needs.
set -euo pipefail

log=.build/cluster-shard-2.log
up=
second=
finish() {
  status=$?
  trap - EXIT INT TERM
  if [ -n "$second" ]; then
    # The whole group: cargo does not end the test that it runs.
    kill -TERM -- "-$second" 2>/dev/null || true
    wait "$second" || true
  fi
  [ -z "$up" ] || LAB_INSTANCE=2 "$LAB" down || status=1
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if [ "$SHARDS" = 2 ]; then
  up=1
  LAB_INSTANCE=2 LAB_SOURCE=$PWD "$LAB" up
  # shellcheck disable=SC2086 # a list
  LAB_INSTANCE=2 "$LAB" import $IMAGES
  set -m # a process group of its own
  LAB_INSTANCE=2 CLUSTER_AUDIT_LOG=$PWD/.lab-2/audit/audit.log "$LAB" exec "$@" --shard 2/2 >"$log" 2>&1 &
  second=$!
  set +m
fi
"$MAKE" admission-test
status=0
"$@" --shard "1/$SHARDS" || status=1
if [ -n "$second" ]; then
  wait "$second" || status=1
  second=
  printf '\nthe other half of the cluster suite, on the second lab:\n'
  cat "$log"
fi
exit "$status"
