#!/bin/bash
# Prints what CHANGELOG.md says of a version ($1, or Unreleased), without its heading. Nothing there: exit code 1.
set -euo pipefail
cd "$(dirname "$0")/../.."
notes=$(awk -v heading="## [$1]" '
  index($0, "## ") == 1 { inside = index($0, heading) == 1; next }
  inside
' CHANGELOG.md)
# Headings of kinds alone say nothing.
grep -q '^[^#[:space:]]' <<<"$notes" || { echo "CHANGELOG.md says nothing of $1" >&2; exit 1; }
# Without empty lines at both ends.
printf '%s\n' "$notes" | sed '/./,$!d'
