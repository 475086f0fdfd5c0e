#!/bin/bash
# The Debian package, from this tree to its purge: built without a network, lintian without errors and warnings, installed into
# a debootstrapped folder, a job run there by its own user, purged. `./check package`, or the suite soak.
#     package.sh SOURCE BUILD
# Exit 77: skipped, and why. Needs root; takes some minutes. Nothing outside a folder below /tmp is touched.
set -euo pipefail
source=$1 build=$2
here=$(mktemp -d /tmp/mulund-package.XXXXXX)
root=$here/root
port=18799
daemon=

finish() {
        [ -z "$daemon" ] || kill "$daemon" 2>/dev/null || true
        if mountpoint -q "$root/proc"; then
                umount -l "$root/proc"
        fi
        # a mount that could not be taken away must not be emptied
        mountpoint -q "$root/proc" || rm -rf --one-file-system "$here"
}
trap finish EXIT
skip() {
        echo "skipped: $*"
        exit 77
}
fail() {
        echo "failed: $*"
        exit 1
}

[ "$(id -u)" = 0 ] || skip "a package is installed by root"
for program in dpkg-buildpackage dh lintian debootstrap; do
        command -v "$program" >/dev/null || skip "there is no $program (tools/install.sh package)"
done
[ -d "$build/web/npm" ] || skip "the dashboard was not built in $build"
unshare -n true 2>/dev/null || skip "no network can be taken away here (unshare -n)"
mirror=${MULUND_DEBIAN_MIRROR:-http://deb.debian.org/debian}
curl -sSfI --max-time 20 "$mirror/dists/bookworm/Release" >/dev/null 2>&1 || skip "$mirror cannot be reached"

echo "== building, without a network"
mkdir -p "$here/tree/build/web"
(cd "$source" && git ls-files -z | grep -zv '^tests/' | tar --null -T - -cf -) | tar -C "$here/tree" -xf -
cp -a "$build/web/npm" "$here/tree/build/web/"
(cd "$here/tree" && unshare -n dpkg-buildpackage -b -us -uc) >"$here/build.log" 2>&1 || {
        tail -n 40 "$here/build.log"
        fail "dpkg-buildpackage"
}
package=$(echo "$here"/mulund_*.deb)

echo "== lintian"
lintian --allow-root --fail-on error,warning "$here"/mulund_*.changes || fail "lintian"

echo "== installing into a folder of its own"
debootstrap --variant=minbase bookworm "$root" "$mirror" >"$here/debootstrap.log" 2>&1 || {
        tail -n 20 "$here/debootstrap.log"
        skip "debootstrap does not succeed here"
}
inside() {
        chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 "$@"
}
mount -t proc proc "$root/proc"
cp /etc/resolv.conf "$root/etc/resolv.conf"
cp "$package" "$root/tmp/mulund.deb"
inside find / -xdev -path /proc -prune -o -path /var/cache/apt -prune -o -print | sort >"$here/before"
inside apt-get install -y --no-install-recommends /tmp/mulund.deb >"$here/install.log" 2>&1 || {
        tail -n 30 "$here/install.log"
        fail "apt-get install"
}
inside getent passwd mulund | grep -q ':/var/lib/mulund:/usr/sbin/nologin$' || fail "there is no user mulund"
[ "$(inside stat -c '%U %a' /var/lib/mulund)" = "mulund 750" ] || fail "/var/lib/mulund is not mulund's own"
inside mulund --check-config /etc/mulund/mulund.conf || fail "the settings that are installed are wrong"

echo "== a job, by the package's user"
cp -r "$source/data/photos32" "$root/srv/"
inside setpriv --reuid mulund --regid mulund --init-groups mulund --config /etc/mulund/mulund.conf --state /var/lib/mulund \
        --listen "127.0.0.1:$port" --dataset photos32=/srv/photos32 --disk-reserve 0 2>"$here/daemon.log" &
daemon=$!
for i in {1..200}; do
        curl -sf --max-time 5 "http://127.0.0.1:$port/healthz" >/dev/null && break
        if [ "$i" = 200 ] || ! kill -0 "$daemon" 2>/dev/null; then
                cat "$here/daemon.log"
                fail "the daemon does not serve"
        fi
        sleep 0.1
done
curl -sf "http://127.0.0.1:$port/" | grep -qi "<html" || fail "there is no dashboard"
inside mulunctl --server /var/lib/mulund/mulund.sock submit photos32-tiny --set training.num_steps_train=2 --set training.num_steps_eval=0 \
        --set training.num_steps_lr_warmup=1 --set training.batch_size_train=8 --wait || {
        inside mulunctl --server /var/lib/mulund/mulund.sock log 1 || true
        fail "the job did not succeed"
}
inside mulunctl --server /var/lib/mulund/mulund.sock stop
wait "$daemon" || fail "the daemon ended badly"
daemon=

echo "== purging"
inside dpkg --purge mulund >"$here/purge.log" 2>&1 || {
        cat "$here/purge.log"
        fail "dpkg --purge"
}
grep -q "stays in /var/lib/mulund" "$here/purge.log" || fail "that what was trained stays is not said"
[ -e "$root/var/lib/mulund/mulund.db" ] || fail "what was trained was removed"
left=$(inside find / -xdev -path /proc -prune -o -path /var/cache/apt -prune -o -print | sort | comm -13 "$here/before" - | grep mulund |
        grep -v '^/var/lib/mulund' || true)
[ -z "$left" ] || fail "it left behind: $left"
echo "passed"
