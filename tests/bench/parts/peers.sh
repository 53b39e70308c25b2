# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# The target beside a raw disk, a loop device and QEMU, all as block devices of one kernel, with one client. Sourced by tests/bench/run.
peers() {
    local depth biogen=$BUILD/kernel-qemu-6.12/tests/bench/biogen/dmchain-biogen.ko
    "$top/tests/vm/module" qemu-6.12
    "$top/tests/vm/module" qemu-6.12 tests/bench/biogen
    for depth in ${DMCHAIN_BENCH_DEPTHS:-1 10 50 100 500 1000}; do
        note "peers: depth $depth"
        rm -rf "$work/chain"
        "$genchain" --deep "$depth" --size "${DMCHAIN_BENCH_SIZE:-1G}" --seed 1 --out "$work/chain" --raw "$work/chain/raw" >/dev/null
        DMCHAIN_CHAIN=$work/chain in_machine qemu-6.12 "null_blk nbd loop $biogen" 9G -- "$here/peers-in-machine" "$depth" "$rounds"
    done
    rm -rf "$work/chain"
}
