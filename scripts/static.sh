#!/bin/bash
# Builds the program without any shared library, by profile $1 (release or dev), into folder $2, for the target $3 of
# rustc; without it for this machine and with its C library, as the image and tests have it. FEATURES=otlp builds with that
# feature of cargo. The C library's own resolver is in it. In the image, where there is no /etc/nsswitch.conf, it needs
# /etc/resolv.conf and no other file. On other machines glibc's would load what theirs names: a program for them is built for
# a target with musl (scripts/release/program.sh).
set -euo pipefail
cd "$(dirname "$0")/.."
target=${3:-}
# Flags of the last step only: how libraries are linked is decided there, and what is built for tests is used again.
cargo rustc --quiet --locked --profile "$1" ${target:+--target "$target"} ${FEATURES:+--features "$FEATURES"} \
  --bin kafka-external-access -- \
  -C target-feature=+crt-static -C strip=symbols
folder=$(cargo metadata --format-version 1 --no-deps --locked | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
install -D "$folder/${target:+$target/}${1/#dev/debug}/kafka-external-access" "$2/kafka-external-access"
