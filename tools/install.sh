#!/bin/sh
# Installs what is missing of the named groups of packages.txt, and says nothing when nothing is.
#     tools/install.sh run test
# Needs apt (Debian 12) and, when something is missing, root or sudo. Asks nothing.
set -eu

list=$(dirname "$0")/../packages.txt
missing=

for group; do
        found=
        wanted=$(awk -v group="[$group]" '
                /^\[/ { inside = ($1 == group); if (inside) print "found" }
                inside && !/^[[#]/ && NF { print $1 (NF > 1 ? ":" $2 : "") }' "$list")
        for entry in $wanted; do
                if [ "$entry" = found ]; then
                        found=1
                        continue
                fi
                package=${entry%%:*}
                case $entry in
                *:*) ! command -v "${entry#*:}" >/dev/null 2>&1 || continue ;;
                esac
                status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
                [ "$status" = installed ] || missing="$missing $package"
        done
        if [ -z "$found" ]; then
                echo "install.sh: packages.txt has no group [$group]" >&2
                exit 2
        fi
done

[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
        echo "install.sh: this machine has no apt-get; please install:$missing" >&2
        exit 1
fi
sudo=
if [ "$(id -u)" != 0 ]; then
        if ! command -v sudo >/dev/null 2>&1; then
                echo "install.sh: not root and no sudo; please install:$missing" >&2
                exit 1
        fi
        sudo=sudo
fi

echo "Installing:$missing"
log=$(mktemp)
# A test's nginx or prometheus is a program, not a service of this machine: none is started as it is installed, unless
# somebody has a policy of his own.
policy=/usr/sbin/policy-rc.d
made=
if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null && $sudo chmod 755 "$policy" && made=$policy
fi
finish() {
        rm -f "$log"
        [ -z "$made" ] || $sudo rm -f "$made"
}
trap finish EXIT
trap 'exit 1' HUP INT TERM
# Word splitting is meant: a list of names, each a package.
# shellcheck disable=SC2086
if ! {
        $sudo apt-get update -q &&
        $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends \
                -o DPkg::Lock::Timeout=600 $missing
} >"$log" 2>&1 </dev/null; then
        tail -n 30 "$log" >&2
        echo "install.sh: apt-get failed; its last lines are above" >&2
        exit 1
fi
# nor with the machine
for package in $missing; do
        case $package in
        nginx-light) unit=nginx ;;
        prometheus) unit=prometheus ;;
        *) continue ;;
        esac
        ! command -v systemctl >/dev/null 2>&1 || $sudo systemctl --quiet disable "$unit" >/dev/null 2>&1 || true
done
