#!/bin/bash
# Each parser of foreign bytes under libFuzzer, guided by coverage: fuzz.sh RUNS [TARGET...]. The stable compiler does:
# these are the flags of `cargo fuzz run --sanitizer none`. What is found is kept in target/fuzz/, also between runs: a
# corpus for each target, and in findings/ the input of each failure. Exit code 1: a parser broke a promise.
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-1000000}
shift || true
if (($# == 0)); then mapfile -t targets < <(ls fuzz/fuzz_targets | sed 's/\.rs$//'); else targets=("$@"); fi

triple=$(rustc -vV | sed -n 's/^host: //p')
folder=${CARGO_TARGET_DIR:-$PWD/target}
work=$folder/fuzz
mkdir -p "$work/findings"

# --target keeps the flags from build scripts, which have no fuzzer to report to.
bins=("${targets[@]/#/--bin=}")
RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares" \
  CARGO_TARGET_DIR=$folder cargo build --locked --release --manifest-path fuzz/Cargo.toml --target "$triple" "${bins[@]}"

failed=()
printf '%-14s %10s %8s %8s %8s\n' target runs seconds covered corpus
for target in "${targets[@]}"; do
  mkdir -p "$work/$target"
  start=$SECONDS
  if "$folder/$triple/release/$target" -runs="$runs" -max_len=4096 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
    -artifact_prefix="$work/findings/$target-" "$work/$target" "fuzz/seeds/$target" >"$work/$target.log" 2>&1; then
    result=
  else
    failed+=("$target")
    result="  FAILED: see $work/$target.log"
  fi
  done_runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/$target.log")
  covered=$(grep -o 'cov: [0-9]*' "$work/$target.log" | tail -1 | tr -dc 0-9)
  corpus=$(find "$work/$target" -type f | wc -l)
  printf '%-14s %10s %8s %8s %8s%s\n' "$target" "${done_runs:-?}" $((SECONDS - start)) "${covered:-?}" "$corpus" "$result"
done
((${#failed[@]} == 0))
