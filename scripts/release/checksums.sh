#!/bin/bash
# Writes SHA256SUMS of every file of folder $1, as `sha256sum --check` reads it there.
set -euo pipefail
cd "$1"
rm -f SHA256SUMS
sums=$(LC_ALL=C && sha256sum -- *)
printf '%s\n' "$sums" >SHA256SUMS
