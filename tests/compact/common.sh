# SPDX-License-Identifier: GPL-2.0-or-later
# For the tests of dmchain compact on chains at rest: sourced after "set -euo pipefail".
dmchain=${1:?the program dmchain}
work=$(mktemp -d "${TMPDIR:-/var/tmp}/dmchain-compact-XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/vm"
cd "$work/vm"
failures=0
fail() {
    echo "FAILED: $*" >&2
    failures=$((failures + 1))
}
finish() {
    [ $failures = 0 ] || { echo "$failures failures"; exit 1; }
    echo "all well"
}
# wait_for COMMAND...: waits for it to succeed, on a machine that may be very busy.
wait_for() {
    local i
    for ((i = 0; i < 600; i++)); do "$@" && return; sleep 0.05; done
    fail "waited 30 s in vain for: $*"
}
must() { "$@" >../said 2>&1 || fail "$*: $(cat ../said)"; }

# l0 to l$1, each with data and zeroes of its own over the one before, and what each reads in ../reference.N
chain() {
    local i
    rm -f ./* ../reference.*
    for i in $(seq 0 "$1"); do
        qemu-img create -q -f qcow2 $([ "$i" = 0 ] || echo "-b l$((i - 1)).qcow2 -F qcow2") "l$i.qcow2" 8M
        qemu-io -f qcow2 -c "write -q -P $((i + 1)) $((i * 511))k 900k" -c "write -q -z $((i * 300))k 200k" \
            -c "write -q -P $((i + 100)) 7M 128k" "l$i.qcow2"
        qemu-img convert -O raw "l$i.qcow2" "../reference.$i"
    done
}
# That what is left of them reads as before, by QEMU.
reads() {
    local i
    for i in "${@:2}"; do
        qemu-img check -q -f qcow2 "l$i.qcow2" || fail "$1: l$i.qcow2: qemu-img check: $?"
        qemu-img compare -q -f qcow2 -F raw "l$i.qcow2" "../reference.$i" || fail "$1: QEMU reads something else of l$i.qcow2"
    done
}
