#!/bin/bash
# The chart's alerts by promtool: the rules as helm renders them are well-formed, and each alert fires when it should and
# is silent when it should be (tests/alerts, a file each).
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# What Prometheus reads is the `spec` of the object that helm renders.
cargo lab helm template alerts charts/kafka-external-access --show-only templates/prometheusrule.yaml \
  --set prometheusRule.enabled=true,prometheusRule.renderMode=alwaysRender >"$folder/object"
sed '1,/^spec:$/d; s/^  //' "$folder/object" >"$folder/rules.yaml"
cp tests/alerts/*.yaml "$folder"

cargo lab promtool check rules "$folder/rules.yaml"
cargo lab promtool test rules "$folder"/Kafka*.yaml
