# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# A guest boots from chains of 1 to 1000 layers: from the target's device, and by QEMU's own qcow2 driver. Sourced by tests/bench/run.
boot() {
    local depth
    note "boot: making the disk"
    # shellcheck disable=SC1091
    . "$top/tests/guest-boot/guest.sh"
    rm -rf "$work/disk"
    make_root "$work/disk/root" "$work"
    "$top/tests/vm/run" uml --timeout 900 --scratch 2G --out "$work/disk" -- "$top/tests/guest-boot/in-machine" write >"$work/log" 2>&1 ||
        { cat "$work/log" >&2; exit 1; }
    qemu-img convert -f qcow2 -O raw "$work/disk/vm/$(cat "$work/disk/top")" "$work/raw"
    for depth in ${DMCHAIN_BENCH_DEPTHS:-1 100 500 1000}; do
        note "boot: depth $depth"
        rm -rf "$work/chain"
        "$genchain" --deep "$depth" --from "$work/raw" --size "$(stat -c %s "$work/raw")" --seed 1 --out "$work/chain" >/dev/null
        DMCHAIN_CHAIN=$work/chain in_uml 6G -- "$here/boot-in-machine" "$depth" 3
    done
    rm -rf "$work/chain" "$work/disk" "$work/raw"
}
