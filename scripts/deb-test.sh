#!/bin/bash
# The Debian package: what is in it, whether systemd takes its unit, and what becomes of an administrator's files when it
# is installed, upgraded, removed and purged. All in a folder of its own; nothing is installed on this machine. Needs root,
# dpkg and systemd; lintian is asked where it is installed. PROGRAM=FILE packs this program; without it one is built for
# tests, which is packed like the one of a release.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
unit=kafka-external-access-hosts.service
settings=$root/etc/default/kafka-external-access-hosts
wants=$root/etc/systemd/system/multi-user.target.wants/$unit
passed=0

ok() { passed=$((passed + 1)); }
# so SENTENCE COMMAND...: the command succeeds.
so() {
  local sentence=$1
  shift
  "$@" || { echo "not so: $sentence ($*)" >&2; exit 1; }
  ok
}
is() { [ "$1" = "$2" ] || { printf 'found:\n%s\nexpected:\n%s\n' "$1" "$2" >&2; return 1; }; }

if [ -z "${PROGRAM:-}" ]; then
  scripts/static.sh dev "$work"
  PROGRAM=$work/kafka-external-access
fi
pack() { scripts/release/deb.sh "$PROGRAM" "$(dpkg --print-architecture)" "$work"; }
first=$(pack)
name=$(basename "$first" .deb)
cp "$first" "$work/again"
so "two builds of one commit are the same file" cmp "$(pack)" "$work/again"
next=$(DEB_VERSION=99.0.0-rc.1 pack)

echo "== $name: what is in it"
dpkg-deb -I "$first"
dpkg-deb -c "$first"
field() { dpkg-deb -f "$1" "$2"; }
version=$(scripts/release/check.sh)
so "it is of this version" is "$(field "$first" Version)" "${version//-/\~}"
so "a version before a release sorts before it" dpkg --compare-versions "$(field "$next" Version)" lt 99.0.0
so "it needs nothing of the machine" is "$(field "$first" Depends)" ""
so "the program is linked statically" sh -c '! readelf -d "$1" 2>/dev/null | grep -q NEEDED' sh "$PROGRAM"
outside=$(dpkg-deb -c "$first" | awk '{print $1, $2, $6}' | grep -v ' \./usr/share/doc/' | grep -v '/$')
so "it has these files, of root" is "$outside" "-rw-r--r-- root/root ./etc/default/kafka-external-access-hosts
-rwxr-xr-x root/root ./usr/bin/kafka-external-access
-rw-r--r-- root/root ./usr/lib/systemd/system/$unit"
so "every folder is for everybody" is \
  "$(dpkg-deb -c "$first" | awk '/\/$/ && $6 != "./etc/kafka-external-access/" {print $1, $2}' | sort -u)" "drwxr-xr-x root/root"
so "but credentials are for root only" is \
  "$(dpkg-deb -c "$first" | awk '$6 == "./etc/kafka-external-access/" {print $1, $2}')" "drwxr-x--- root/root"

on() { DPKG_ROOT= dpkg --root="$root" --force-script-chrootless --force-confdef --force-confold --log=/dev/null "$@"; }
state() { dpkg-query --root="$root" -W -f '${db:Status-Status} ${Version}' kafka-external-access 2>/dev/null; }
mkdir -p "$root"/var/lib/dpkg/{info,updates,triggers} "$root/etc"
touch "$root/var/lib/dpkg/status"
printf '127.0.0.1 localhost\n' >"$root/etc/hosts"

echo "== installed"
on -i "$first"
so "it is installed" is "$(state)" "installed $(field "$first" Version)"
so "the program runs" "$root/usr/bin/kafka-external-access" --version
so "nobody has enabled the service" test ! -e "$wants"
so "the settings are a conffile" grep -q /etc/default/kafka-external-access-hosts \
  "$root/var/lib/dpkg/info/kafka-external-access.conffiles"

echo "== the unit"
# Every target that it names is this machine's; the program is the installed one.
mkdir -p "$work/unit"
sed "s|=/usr/bin/|=$root/usr/bin/|; s|=/etc/default/|=$root/etc/default/|" "$root/usr/lib/systemd/system/$unit" \
  >"$work/unit/$unit"
verified=$(systemd-analyze verify --man=no "$work/unit/$unit" 2>&1) || { echo "$verified" >&2; exit 1; }
so "systemd finds nothing to complain about" is "$(grep "$unit" <<<"$verified" || true)" ""
# In tenths; 100 is no protection.
so "it is held to what it needs" systemd-analyze security --no-pager --offline=true --threshold=30 "$work/unit/$unit" \
  >"$work/security" || { cat "$work/security"; exit 1; }
for variable in $(sed -n 's/^#\{0,1\}\(\(KEA\|KAFKA\)_[A-Z_]*\)=.*/\1/p' "$settings"); do
  so "the program knows $variable" sh -c '"$1" hosts --help | grep -q "$2"' sh "$PROGRAM" "$variable"
done

echo "== upgraded"
systemctl --root="$root" --quiet enable "$unit"
so "an administrator enables it" test -L "$wants"
echo secret >"$root/etc/kafka-external-access/token"
on -i "$next"
so "the next version is there" is "$(state)" "installed 99.0.0~rc.1"
so "it stays enabled" test -L "$wants"
sed -i 's|ydata/kafka|ydata/orders|' "$settings"
sum=$(md5sum <"$settings")
# A version with other settings.
sed 's|ydata/kafka|ydata/other|' packaging/kafka-external-access-hosts.default >"$work/other"
dpkg-deb -R "$next" "$work/later"
sed -i 's/^Version: .*/Version: 99.0.1/' "$work/later/DEBIAN/control"
install -m 644 "$work/other" "$work/later/etc/default/kafka-external-access-hosts"
dpkg-deb --root-owner-group --build "$work/later" "$work/later.deb" >/dev/null
on -i "$work/later.deb"
so "what an administrator has changed stays" is "$(md5sum <"$settings")" "$sum"
so "the package's own stands beside it" cmp "$settings.dpkg-dist" "$work/other"

echo "== removed"
on -r kafka-external-access
so "it is removed" is "$(state)" "config-files 99.0.1"
so "the program is gone" test ! -e "$root/usr/bin/kafka-external-access"
so "the unit is gone" test ! -e "$root/usr/lib/systemd/system/$unit"
so "it is not enabled any more" test ! -L "$wants"
so "changed settings stay" is "$(md5sum <"$settings")" "$sum"
on -i "$first"
so "they are there again for who installs it again" is "$(md5sum <"$settings")" "$sum"
on -P kafka-external-access
so "purge takes the settings" test ! -e "$settings"
so "what an administrator has put there stays" is "$(cat "$root/etc/kafka-external-access/token")" secret
so "the hosts file was never touched" is "$(cat "$root/etc/hosts")" "127.0.0.1 localhost"

if command -v lintian >/dev/null; then
  echo "== lintian"
  # Left out: who maintains it has no address; a static program is meant; there is no page for man yet.
  so "lintian finds no error" lintian --fail-on error --suppress-tags \
    malformed-contact,statically-linked-binary,no-manual-page "$first"
fi
echo "deb-test: $passed checks passed"
