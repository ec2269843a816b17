#!/bin/bash
# Packs the chart into folder $1 so that it installs the released image: from registry $2 (with its path), by digest $3.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$1 registry=$2 digest=$3
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
cp -r charts/kafka-external-access "$stage/"
values=$stage/kafka-external-access/values.yaml

# set_value KEY VALUE: of the section `image`, where it is empty.
set_value() {
  sed -i "/^image:/,/^[^ ]/s|^  $1: \"\"\$|  $1: \"$2\"|" "$values"
  grep -qxF "  $1: \"$2\"" "$values" || { echo "values.yaml has no empty image.$1" >&2; exit 1; }
}
set_value registry "$registry"
set_value digest "$digest"
${HELM:-helm} package "$stage/kafka-external-access" --destination "$out"
