# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# What the scripts of tests/vm/ share: where the checkout, its build folder and the cache are, and
# which kernel each machine runs. Sourced by them; the caller has done `set -euo pipefail`.
#
# Machines: uml        User Mode Linux, native speed, one processor: benchmarks
#           uml-debug  the same with lockdep, checked slabs and fault injection: correctness
#           uml-kasan  that with KASAN and kmemleak, too, which takes two to three times as long
#           qemu-6.1   the oldest and
#           qemu-6.12  the newest kernel that Debian 12 offers, under emulation, two processors
#
# The cache lies outside the checkout. Its parts are named by what they are made from; each is made
# under another name and renamed when it is complete, so what has its final name can be trusted.
#   versions                   the kernel versions in use (written by packages)
#   image-<version>/           a Debian kernel package, unpacked (packages)
#   linux-source-<version>/    the kernel source package, unpacked (uml)
#   uml-<hash>/                a User Mode Linux build tree (uml)

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
BUILD=${DMCHAIN_BUILD:-$TOP/build}
CACHE=${DMCHAIN_CACHE:-/var/cache/dm-chain}
MACHINES="uml uml-debug uml-kasan qemu-6.1 qemu-6.12"

die() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# Runs the rest of the script alone: a second caller waits here until the first has ended.
lock_cache() {
    mkdir -p "$CACHE"
    exec 9>"$CACHE/.lock-$1"
    flock 9
}

# The kernel versions that `packages` chose: OLDEST, NEWEST (as in linux-image-VERSION) and SOURCE
# (of the package linux-source-6.12).
load_versions() {
    [ -e "$CACHE/versions" ] || die "$CACHE/versions is missing: run tests/vm/packages first"
    # shellcheck disable=SC1091
    . "$CACHE/versions"
}

# The configuration of a User Mode Linux machine: each adds to the one before.
uml_config() {
    local names=(uml)
    case $1 in
    uml-debug) names+=(uml-debug) ;;
    uml-kasan) names+=(uml-debug uml-kasan) ;;
    esac
    (cd "$TOP/tests/vm" && cat "${names[@]/%/.config}")
}

# The folder where the build tree of a User Mode Linux machine is or is to be.
uml_tree() {
    load_versions
    echo "$CACHE/uml-$( (echo "$SOURCE"; gcc -dumpfullversion; uml_config "$1" | grep CONFIG_) |
        sha256sum | cut -c1-16)"
}

# Release name (uname -r) of a QEMU machine's kernel.
qemu_release() {
    load_versions
    case $1 in
    qemu-6.1) echo "$OLDEST" ;;
    qemu-6.12) echo "$NEWEST" ;;
    esac
}

# copy_modules IMAGE RELEASE DIR NAME...: these modules of an unpacked kernel package and what they need, for an initrd;
# DIR/order has them in the order in which they are to be loaded.
copy_modules() {
    local image=$1 release=$2 dir=$3 file name
    shift 3
    mkdir -p "$dir"
    for name in "$@"; do
        /sbin/modprobe -d "$image" -S "$release" --show-depends "$name"
    done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' |
        while read -r file; do
            name=${file##*/}
            case $name in
            *.xz) xz -dc "$file" >"$dir/${name%.xz}" ;;
            *) cp "$file" "$dir/" ;;
            esac
            echo "${name%.xz}" >>"$dir/order"
        done
}
