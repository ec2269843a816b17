#!/bin/bash
# The image for amd64 and arm64 from the archives that program.sh left in folder $1, as an OCI archive in file $2. $3: where
# the source is to be found, for the image's label. It is the Dockerfile that everybody else uses; nothing is run in it,
# so that one machine makes both.
set -euo pipefail
cd "$(dirname "$0")/../.."
programs=$1 archive=$2 source=$3
# As in lab/src/image.rs.
most=20000000
authorities=/etc/ssl/certs/ca-certificates.crt
version=$(scripts/release/check.sh)
name=kafka-external-access:$version
# Where the Dockerfile copies from.
given=target/image/out
store=$(mktemp -d)
trap 'rm -rf "$store"' EXIT
buildah() { command buildah --storage-driver vfs --root "$store/root" --runroot "$store/run" "$@"; }

for arch in amd64 arm64; do
  rm -rf $given
  mkdir -p $given
  folder=kafka-external-access-$version-linux-$arch
  tar --extract --file "$programs/$folder.tar.gz" --directory $given --strip-components 1 "$folder/kafka-external-access"
  cp $authorities $given/
  size=$(du --bytes --summarize $given | cut -f1)
  ((size <= most)) || { echo "the image for $arch has $size bytes, and more than $most are too many" >&2; exit 1; }
  echo "$arch: $size bytes"
  buildah bud --isolation chroot --quiet --platform "linux/$arch" --manifest "$name" --build-arg PROGRAM=given \
    --timestamp "$(git log -1 --format=%ct)" \
    --label org.opencontainers.image.source="$source" \
    --label org.opencontainers.image.revision="$(git rev-parse HEAD)" \
    --label org.opencontainers.image.version="$version" \
    --label org.opencontainers.image.licenses=Apache-2.0 \
    --file Dockerfile .
done
rm -f "$archive"
buildah manifest push --all --quiet "$name" "oci-archive:$archive"
