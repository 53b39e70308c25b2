# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# How long a guest's reads and writes take while layers of its disk are merged, beside the same without. Sourced by tests/bench/run.
latency() {
    note "latency: making the chain"
    "$genchain" --deep 20 --size "${DMCHAIN_BENCH_SIZE:-1G}" --seed 1 --out "$work/chain" >/dev/null
    note "latency: one processor"
    DMCHAIN_CHAIN=$work/chain in_uml 6G -- "$here/latency-in-machine" "$rounds" steady-plain steady-idle steady-rate full-plain full-rate steady-qemu full-qemu
    rm -rf "$work/chain"
    note "latency: two processors, emulated"
    "$genchain" --deep 20 --size "${DMCHAIN_BENCH_SIZE:-256M}" --seed 1 --out "$work/chain" >/dev/null
    "$top/tests/vm/module" qemu-6.12
    DMCHAIN_CHAIN=$work/chain in_machine qemu-6.12 null_blk 2G -- "$here/latency-in-machine" "$rounds" steady-plain full-plain
    rm -rf "$work/chain"
}
