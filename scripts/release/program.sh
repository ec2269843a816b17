#!/bin/bash
# What a release has for one kind of machine ($1: amd64 or arm64), into folder $2: the program as an archive, as a Debian
# package, and its SBOM. It is linked with musl: on machines of clients glibc's resolver would load what their
# /etc/nsswitch.conf names, of another version than its own.
#
# Needs the target of rustup, dpkg, and a C compiler for libraries of dependencies: musl-gcc (Debian:
# musl-tools) on a machine of that kind, else aarch64-linux-gnu-gcc (Debian: gcc-aarch64-linux-gnu).
set -euo pipefail
cd "$(dirname "$0")/../.."
arch=$1 out=$2
case $arch in
  amd64) machine=x86_64 ;;
  arm64) machine=aarch64 ;;
  *) echo "usage: program.sh amd64|arm64 FOLDER" >&2; exit 2 ;;
esac
target=$machine-unknown-linux-musl
run=()
if [[ $machine == "$(uname -m)" ]]; then
  export "CC_${target//-/_}=musl-gcc"
else
  export "CC_${target//-/_}=$machine-linux-gnu-gcc"
  linker=CARGO_TARGET_${target//-/_}_LINKER
  export "${linker^^}=$machine-linux-gnu-gcc"
  run=("qemu-$machine")
fi

version=$(scripts/release/check.sh)
name=kafka-external-access-$version-linux-$arch
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
mkdir -p "$out"
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

scripts/static.sh release "$stage/$name" "$target"
program=$stage/$name/kafka-external-access
if readelf --program-headers "$program" | grep -q INTERP; then
  echo "the program needs shared libraries" >&2
  exit 1
fi
# It runs, and is the one of this source.
[[ $("${run[@]}" "$program" --version) == "kafka-external-access $version" ]]
"${run[@]}" "$program" crd --kind KafkaExternalAccess | cmp - crds/kafkaexternalaccesses.yaml

cp LICENSE README.md CHANGELOG.md "$stage/$name"
tar --create --directory "$stage" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" "$name" |
  gzip --no-name --best >"$out/$name.tar.gz"
DEB_VERSION=$version scripts/release/deb.sh "$program" "$arch" "$out" >/dev/null
scripts/release/sbom.py "$target" "$out/$name.cdx.json"
