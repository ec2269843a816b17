#!/bin/bash
# Holds the places that name the version to each other, and prints it. With a tag ($1, as in v0.1.0): the tag names it as
# well, and the changelog has its notes with a date and nothing beside them that is unreleased.
set -euo pipefail
cd "$(dirname "$0")/../.."
tag=${1:-}
wrong=0

# named FILE WHAT FOUND...: each of what was found there is the version.
named() {
  local file=$1 what=$2 found
  shift 2
  (($#)) || { echo "$file: no $what was found" >&2; wrong=1; }
  for found in "$@"; do
    [[ $found == "$version" ]] || { echo "$file: $what is $found, and Cargo.toml says $version" >&2; wrong=1; }
  done
}

version=$(sed -n '/^\[workspace.package\]/,/^\[p/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.]+)?$ ]] || { echo "Cargo.toml: \"$version\" is no version" >&2; exit 1; }

mapfile -t locked < <(grep -A1 -E '^name = "(kafka-external-access|lab)"$' Cargo.lock | sed -n 's/^version = "\(.*\)"$/\1/p')
named Cargo.lock "the version of a package of this repository" "${locked[@]}"
chart=charts/kafka-external-access/Chart.yaml
for key in version appVersion; do
  mapfile -t found < <(sed -n "s/^$key: *\"\?\([^\"]*\)\"\?$/\1/p" $chart)
  named $chart "$key" "${found[@]}"
done
# Images (NAME:VERSION) and Debian packages (NAME_VERSION_ARCH.deb, where ~ stands for -) that a page names.
name='kafka-external-access[:_][0-9][0-9A-Za-z.~-]*'
# These pages name one; another one that does has to agree as well.
mapfile -t pages < <({
  printf '%s\n' README.md tests/chart/introduction.md docs/quickstart.md docs/hosts.md
  grep -lE "$name" docs/*.md
} | sort -u)
for page in "${pages[@]}"; do
  mapfile -t found < <(grep -oE "$name" "$page" | sed 's/^[^:_]*[:_]//; s/~/-/g')
  named "$page" "the version of an image or a package" "${found[@]}"
done

notes() { scripts/release/notes.sh "$1" 2>/dev/null; }
if [[ $tag ]]; then
  named "tag $tag" "the version" "${tag#v}"
  grep -qE "^## \[${version//./\\.}\] - [0-9]{4}-[0-9]{2}-[0-9]{2}$" CHANGELOG.md ||
    { echo "CHANGELOG.md: no heading \"## [$version] - YYYY-MM-DD\"" >&2; wrong=1; }
  notes "$version" >/dev/null || { echo "CHANGELOG.md: no notes of $version" >&2; wrong=1; }
  ! notes Unreleased >/dev/null || { echo "CHANGELOG.md: something is unreleased beside $version" >&2; wrong=1; }
elif ! notes Unreleased >/dev/null && ! notes "$version" >/dev/null; then
  echo "CHANGELOG.md: neither \"## [Unreleased]\" nor \"## [$version]\" says anything" >&2
  wrong=1
fi

((wrong)) || echo "$version"
exit $wrong
