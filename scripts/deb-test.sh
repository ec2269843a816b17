#!/bin/bash
# The Debian package: what is in it, whether systemd takes its units, and what becomes of an administrator's files when it
# is installed, upgraded, removed and purged. All in a folder of its own; nothing is installed on this machine. Needs root,
# dpkg and systemd; lintian is asked where it is installed. PROGRAM=FILE packs this program; without it one is built for
# tests, which is packed like the one of a release.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
hosts=kafka-external-access-hosts report=kafka-external-access-report
units=("$hosts.service" "$hosts@.service" "$report@.service")
# What an administrator enables of them.
instances=("$hosts.service" "$hosts@orders.service" "$hosts@a-b.service" "$report@orders.service")
settings=$root/etc/default/$hosts
wants=$root/etc/systemd/system/multi-user.target.wants
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
$(printf -- '-rw-r--r-- root/root ./usr/lib/systemd/system/%s\n' "${units[@]}")"
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
so "nobody has enabled a service" test ! -e "$wants"
so "the settings are a conffile" grep -q /etc/default/kafka-external-access-hosts \
  "$root/var/lib/dpkg/info/kafka-external-access.conffiles"

echo "== the units"
# Every target that they name is this machine's; the program is the installed one.
mkdir -p "$work/unit"
for unit in "${units[@]}"; do
  sed "s|=/usr/bin/|=$root/usr/bin/|; s|=/etc/default/|=$root/etc/default/|" "$root/usr/lib/systemd/system/$unit" \
    >"$work/unit/$unit"
done
# accepted UNIT MOST: systemd takes it; MOST is in tenths, and 100 is no protection.
accepted() {
  local verified
  verified=$(systemd-analyze verify --man=no "$work/unit/$1" 2>&1) || { echo "$verified" >&2; exit 1; }
  so "systemd finds nothing to complain about in $1" is "$(grep -F "${1%%[@.]*}" <<<"$verified" || true)" ""
  so "$1 is held to what it needs" systemd-analyze security --no-pager --offline=true --threshold="$2" "$work/unit/$1" \
    >"$work/security" || { cat "$work/security"; exit 1; }
}
accepted "$hosts.service" 30
accepted "$hosts@test.service" 30
accepted "$report@test.service" 15
# of UNIT: where it reads settings and credentials.
of() { grep -o '/etc/\(default\|kafka-external-access\)/[^ ]*' "$root/usr/lib/systemd/system/$1"; }
so "an instance has settings and credentials of its own" is "$(of "$hosts@.service"; of "$report@.service")" \
  "/etc/default/$hosts-%i
/etc/kafka-external-access/%i/password
/etc/default/$report-%i
/etc/kafka-external-access/%i/password
/etc/kafka-external-access/%i/report-kubeconfig"
examples=$root/usr/share/doc/kafka-external-access/examples
# known FILE COMMAND: the program has each variable of these settings, or the unit gives it as an option.
known() {
  local help variable
  help=$("$PROGRAM" "$2" --help)
  for variable in $(sed -n 's/^#\{0,1\}\(\(KEA\|KAFKA\)_[A-Z_]*\)=.*/\1/p' "$1"); do
    case $variable in
    KEA_REPORT_*) so "the unit gives $variable" grep -qF "\${$variable}" "$root/usr/lib/systemd/system/$report@.service" ;;
    *) so "the program knows $variable" grep -q "env: $variable=" <<<"$help" ;;
    esac
  done
}
known "$settings" hosts
known "$examples/$hosts-orders" hosts
known "$examples/$report-orders" check

echo "== upgraded"
systemctl --root="$root" --quiet enable "${instances[@]}"
enabled() { find "$wants" -type l -printf '%f\n' 2>/dev/null | sort; }
all=$(printf '%s\n' "${instances[@]}" | sort)
so "an administrator enables them" is "$(enabled)" "$all"
echo secret >"$root/etc/kafka-external-access/token"
on -i "$next"
so "the next version is there" is "$(state)" "installed 99.0.0~rc.1"
so "they stay enabled" is "$(enabled)" "$all"
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
so "the units are gone" is "$(ls "$root/usr/lib/systemd/system" 2>/dev/null)" ""
so "none is enabled any more" is "$(enabled)" ""
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
