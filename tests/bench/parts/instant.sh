# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# Snapshot, clone and rollback of disks of 1 GiB to 2 TiB: the kernel's part and the command, beside dm-thin and qemu-img. Sourced
# by tests/bench/run.
instant() {
    local gib
    for gib in 1 100 2048; do
        note "instant: $gib GiB"
        rm -rf "$work/chain"
        "$genchain" --sparse-2t --depth 5 --size "${gib}G" --count 1000 --seed 1 --out "$work/chain" >/dev/null
        DMCHAIN_CHAIN=$work/chain in_uml 3G -- "$here/instant-in-machine" "$gib" "$rounds"
    done
    rm -rf "$work/chain"
}
