#!/bin/bash
# Every test: those that need no lab first, then those on real parts, one after the other. The lab is ended afterwards,
# also on failure. At the end stands how long each part took, what failed and why, and the last lines of the test runner.
set -uo pipefail
cd "$(dirname "$0")/.."
export RUST_BACKTRACE=0

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
failed=()
times=()
last=

# part NAME COMMAND...: runs it; shows all of it as it comes.
part() {
  local name=$1 start=$SECONDS
  shift
  "$@" 2>&1 | tee "$logs/$name"
  local code=${PIPESTATUS[0]}
  times+=("$(printf '%4d s  %s' $((SECONDS - start)) "$name")")
  last=$name
  ((code == 0)) || failed+=("$name")
  return "$code"
}

finish() {
  printf '\n%s\n' "${times[@]}"
  for name in "${failed[@]}"; do
    printf '\n%s failed:\n' "$name"
    # From the first explanation on; where there is none, how it ended.
    sed -n '/^failures:$/,$p' "$logs/$name" | grep . || tail -30 "$logs/$name"
  done
  ((${#failed[@]})) || grep '^test result' "$logs/$last"
  exit $((${#failed[@]} > 0))
}

needed() { part "$@" || finish; }
one_by_one=(-- --test-threads=1)

needed units cargo test --workspace --lib --bins
needed in-memory cargo test --test architecture --test crd_is_current --test reasons --test plan_golden --test road \
  --test kafka_wire --test cloud_contract --test plan_properties
# Built before the lab starts: a build of the same folder must not replace the lab's program while it runs.
needed build cargo test --no-run --workspace
# Real brokers as plain processes, each test in a network of its own; one after the other, for two cores.
part kafka-contract cargo test --test kafka_contract "${one_by_one[@]}"
# It starts and ends a lab of its own.
part lab-life-cycle cargo test -p lab --test life_cycle
if part lab-up cargo lab up; then
  part lab-network cargo test --no-fail-fast -p lab --test cloud_network "${one_by_one[@]}"
  part neutron-contract cargo test --no-fail-fast --test neutron_contract "${one_by_one[@]}"
  part end-to-end cargo test --no-fail-fast --test end_to_end "${one_by_one[@]}"
fi
cargo lab down >/dev/null
finish
