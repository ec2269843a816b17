#!/bin/bash
# Plants each bug of tests/mutants, one for each class that operators of cloud addresses are known for, in a copy of the
# tree: the simulation must catch it. All are in one build; the variable MUTANT chooses which one is awake.
set -euo pipefail
cd "$(dirname "$0")/.."
seeds=${SEEDS:-0..10000}
copy=${TMPDIR:-/tmp}/kafka-external-access-mutants
export CARGO_TARGET_DIR=$PWD/target

rm -rf "$copy"
mkdir -p "$copy"
git ls-files -z | xargs -0 cp --parents -t "$copy"
cd "$copy"
for patch in tests/mutants/*.patch; do git apply "$patch"; done
cargo test --quiet --no-run --test simulation

# run NAME: the first seed that fails, and why; nothing when none does.
run() {
  MUTANT=$1 SEEDS=$seeds FIRST=1 RUST_BACKTRACE=0 cargo test --quiet --test simulation every_schedule -- --nocapture \
    2>&1 | grep -m1 '^seed ' | cut -c1-200 || true
}

missed=0
for patch in tests/mutants/[0-9]*.patch; do
  name=$(basename "$patch" .patch)
  [[ $name == 00-* ]] && continue
  seen=$(run "${name#*-}")
  [[ $seen ]] || missed=$((missed + 1))
  printf '%-26s %s\n' "$name" "${seen:-NOT CAUGHT}"
done
exit $((missed > 0))
