#!/bin/bash
# Every test: those that need no lab first, then those on real parts, one after the other. The lab is ended afterwards,
# also on failure. Its last lines are those of the test runner.
set -uo pipefail
cd "$(dirname "$0")/.."
export RUST_BACKTRACE=0

cargo test --workspace --lib --bins || exit 1
cargo test --test architecture --test crd_is_current --test reasons --test plan_golden --test road --test kafka_wire \
  --test cloud_contract --test plan_properties || exit 1
# Built before the lab starts: a build of the same folder must not replace the lab's program while it runs.
cargo test --no-run --workspace || exit 1
# Real brokers as plain processes, each test in a network of its own; one after the other, for two cores.
cargo test --test kafka_contract -- --test-threads=1 || exit 1
# It starts and ends a lab of its own.
cargo test -p lab --test life_cycle || exit 1
if ! cargo lab up >lab-up.log 2>&1; then
  cat lab-up.log
  cargo lab down
  exit 1
fi
cat lab-up.log
cargo test --no-fail-fast -p lab --test cloud_network -- --test-threads=1 >lab-test.log 2>&1
lab_tests=$?
cat lab-test.log
cargo test --no-fail-fast --test end_to_end -- --test-threads=1 >end-to-end.log 2>&1
end_to_end=$?
cargo lab down
cat end-to-end.log
exit $((lab_tests || end_to_end))
