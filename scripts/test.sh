#!/bin/bash
# Every test: those that need no lab first, then those on real parts, side by side in several labs. The labs are ended
# afterwards, also on failure. At the end stands how long each part took, what failed and why, and the last lines of the
# test runner.
set -uo pipefail
cd "$(dirname "$0")/.."
export RUST_BACKTRACE=0

logs=$(mktemp -d)
failed=()
times=()
last=

# Three labs keep two cores busy: much of a test is waiting, and with more of them brokers wait for the processor. The
# first is the one of `cargo lab up`.
base=${XDG_STATE_HOME:-$HOME/.local/state}
homes=("$base")
for number in 2 3; do homes+=("$base/kafka-external-access-lab-$number"); done
LAB_STATE_HOMES=$(IFS=:; echo "${homes[*]}")
export LAB_STATE_HOMES

labs_up() {
  # The first builds and installs what is missing, for all.
  cargo lab up || return
  local home pids=() pid code=0
  for home in "${homes[@]:1}"; do
    XDG_STATE_HOME=$home cargo lab up &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || code=1; done
  return "$code"
}

labs_down() {
  local home
  for home in "${homes[@]}"; do XDG_STATE_HOME=$home cargo lab down >/dev/null; done
}

trap 'rm -rf "$logs"' EXIT

# part NAME COMMAND...: runs it; shows all of it as it comes.
part() {
  local name=$1 start=$SECONDS
  shift
  # Not through a pipe: a process that somebody has left behind would keep it open for ever.
  : >"$logs/$name"
  "$@" >>"$logs/$name" 2>&1 &
  local pid=$! code
  tail -n +1 -f --pid="$pid" "$logs/$name"
  wait "$pid"
  code=$?
  times+=("$(printf '%4d s  %s' $((SECONDS - start)) "$name")")
  last=$name
  ((code == 0)) || failed+=("$name")
  return "$code"
}

# later NAME COMMAND...: runs it in the background; `collect` waits for all of them and shows them.
pids=()
later() {
  local name=$1
  shift
  {
    "$@" >"$logs/$name" 2>&1
    local code=$?
    echo "$SECONDS" >"$logs/$name.end"
    exit "$code"
  } &
  pids+=("$! $SECONDS $name")
}

collect() {
  local entry pid start name code
  for entry in "${pids[@]}"; do
    read -r pid start name <<<"$entry"
    wait "$pid"
    code=$?
    cat "$logs/$name"
    times+=("$(printf '%4d s  %s' $(($(<"$logs/$name.end") - start)) "$name")")
    ((code == 0)) || failed+=("$name")
  done
  pids=()
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

# All of them share the labs, and who waits longest for one is the next: no lab is idle while anybody has something to do.
# What takes minutes begins with the others, so that it is not alone at the end.
on_the_labs() {
  local end_to_end=(cargo test --no-fail-fast --test end_to_end --) long=(restart:: migration:: fire::) others=() some scope
  for some in "${long[@]}"; do others+=(--skip "$some"); done
  rm -f target/tmp/end-to-end-times
  later rolls-and-fire "${end_to_end[@]}" --test-threads=3 "${long[@]}"
  later lab-network cargo test --no-fail-fast -p lab --test cloud_network -- --test-threads=1
  later neutron-contract cargo test --no-fail-fast --test neutron_contract -- --test-threads=2
  later kubernetes-contract cargo test --no-fail-fast --test kubernetes_contract -- --test-threads=1
  part end-to-end "${end_to_end[@]}" "--test-threads=${#homes[@]}" "${others[@]}"
  collect
  # The main job again, by the installed chart with each width of its rights.
  for scope in Cluster Namespaces ReleaseNamespace; do
    later "chart-$scope" env "END_TO_END_OPERATOR=$scope" "${end_to_end[@]}" --test-threads=1 first_steps::
  done
  collect
  # What all of them together asked of the API server.
  part rights cargo test --test end_to_end rights:: -- --ignored
  sort -rn target/tmp/end-to-end-times | head -20
}

needed() { part "$@" || finish; }
needed units cargo test --workspace --lib --bins
needed in-memory cargo test --test architecture --test crd_is_current --test docs --test release --test plan_golden \
  --test road --test kafka_wire --test cloud_contract --test plan_properties --test simulation
needed kubernetes-in-memory cargo test --test kubernetes_contract on_the_simulated_one
# Its last step puts its own program in the place of the tests' one, so it comes before their build.
needed image cargo lab image --profile dev
# Built before the labs start: a build of the same folder must not replace the lab's program while it runs.
needed build cargo test --no-run --workspace
part chart cargo test --test chart
part alerts scripts/alerts.sh
# It starts and ends a lab of its own, beside which the brokers of the contract are plain processes.
later lab-life-cycle cargo test -p lab --test life_cycle
part kafka-contract cargo test --test kafka_contract -- --test-threads=1
collect
if part labs-up labs_up; then on_the_labs; fi
labs_down
finish
