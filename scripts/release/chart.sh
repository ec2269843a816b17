#!/bin/bash
# Packs the chart into folder $1 so that it installs the released image: from registry $2 (with its path), by digest $3. $4:
# where the source is to be found; its alerts lead to the runbooks of the release's tag there. README.md of the packed chart
# says the same.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$1 registry=$2 digest=$3 source=$4
version=$(scripts/release/check.sh)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
cp -r charts/kafka-external-access "$stage/"
values=$stage/kafka-external-access/values.yaml
readme=$stage/kafka-external-access/README.md

# has FILE LINE WHAT: else the edit of it has found nothing.
has() { grep -qF -- "$2" "$1" || { echo "$(basename "$1") has no $3" >&2; exit 1; }; }

# set_value SECTION KEY VALUE: where it is empty, and its default in the table of README.md.
set_value() {
  sed -i "/^$1:/,/^[^ ]/s|^  $2: \"\"\$|  $2: \"$3\"|" "$values"
  has "$values" "  $2: \"$3\"" "empty $1.$2"
  sed -i "s#^| \`$1.$2\` | \`\"\"\` |#| \`$1.$2\` | \`\"$3\"\` |#" "$readme"
  has "$readme" "| \`$1.$2\` | \`\"$3\"\` |" "empty $1.$2"
}
set_value image registry "$registry"
set_value image digest "$digest"
set_value prometheusRule runbookUrl "$source/blob/v$version/docs/runbooks.md"

# Nobody builds an image for it, and it is installed from the registry.
install="helm install kafka-external-access oci://$registry/charts/kafka-external-access --version $version"
sed -i -e '/^docker build /d' \
  -e "s#^helm install kafka-external-access charts/kafka-external-access \(.*\) --set image.registry=REGISTRY\$#$install \1#" \
  "$readme"
has "$readme" "$install" "command that installs it"
${HELM:-helm} package "$stage/kafka-external-access" --destination "$out"
