#!/bin/bash
# Packs program $1, which is linked statically, for machines of kind $2 (amd64 or arm64) as a Debian package into folder $3,
# and prints its path. It serves every release of Debian and Ubuntu; two runs on one commit make the same file.
# DEB_VERSION: another version than that of the source.
set -euo pipefail
cd "$(dirname "$0")/../.."
umask 022
program=$1 arch=$2 out=$3
version=${DEB_VERSION:-$(scripts/release/check.sh)}
# A version before a release sorts before it.
version=${version//-/\~}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
stage=$(mktemp -d)
# It becomes the package's /.
chmod 755 "$stage"
trap 'rm -rf "$stage"' EXIT

documents=$stage/usr/share/doc/kafka-external-access
units=$stage/usr/lib/systemd/system
install -D -m 755 "$program" "$stage/usr/bin/kafka-external-access"
install -D -m 644 packaging/kafka-external-access-hosts.service packaging/kafka-external-access-report@.service -t "$units"
install -D -m 644 packaging/kafka-external-access-hosts.default "$stage/etc/default/kafka-external-access-hosts"
# For one of several objects: the same service with settings and credentials of its own. Who has enabled it has configured it.
sed -e '/^Description=/s/$/: %i/' -e '/^# Without either/d' -e '/^ConditionPathExists=/d' \
  -e 's|/etc/default/kafka-external-access-hosts|&-%i|' -e 's|/etc/kafka-external-access/|&%i/|' \
  packaging/kafka-external-access-hosts.service >"$units/kafka-external-access-hosts@.service"
# For the kubeconfig or the token.
install -d -m 750 "$stage/etc/kafka-external-access"
install -D -m 644 docs/*.md packaging/debian/copyright -t "$documents"
install -D -m 644 docs/images/*.svg -t "$documents/images"
install -D -m 644 examples/*.yaml -t "$documents/examples"
# Settings of instances, here called orders.
sed -e 's|hosts\.service|hosts@orders.service|' -e 's|=ydata/kafka$|=ydata/orders|' \
  -e 's|/etc/kafka-external-access/|&orders/|' packaging/kafka-external-access-hosts.default \
  >"$documents/examples/kafka-external-access-hosts-orders"
install -m 644 packaging/kafka-external-access-report.default "$documents/examples/kafka-external-access-report-orders"
gzip --no-name --best --stdout CHANGELOG.md >"$documents/changelog.gz"

size=$(du -sk --apparent-size "$stage" | cut -f1)
install -d "$stage/DEBIAN"
sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$arch/" -e "s/@SIZE@/$size/" packaging/debian/control \
  >"$stage/DEBIAN/control"
install -m 644 packaging/debian/conffiles -t "$stage/DEBIAN"
install -m 755 packaging/debian/{postinst,prerm,postrm} -t "$stage/DEBIAN"

mkdir -p "$out"
package=$out/kafka-external-access_${version}_$arch.deb
# Ubuntu's default, zstd, cannot be read by Debian 11.
dpkg-deb -Zxz --root-owner-group --build "$stage" "$package" >&2
echo "$package"
