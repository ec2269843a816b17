#!/bin/bash
# Builds the program without any shared library, by profile $1 (release or dev), into folder $2. The C library's own
# resolver is in it; of the machine it needs /etc/resolv.conf and no other file.
set -euo pipefail
cd "$(dirname "$0")/.."
# The flag of the last step only: how libraries are linked is decided there, and what is built for tests is used again.
cargo rustc --quiet --locked --profile "$1" --bin kafka-external-access -- -C target-feature=+crt-static
folder=$(cargo metadata --format-version 1 --no-deps --locked | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
mkdir -p "$2"
strip -o "$2/kafka-external-access" "$folder/${1/#dev/debug}/kafka-external-access"
