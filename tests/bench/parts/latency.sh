# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# How long a guest's reads and writes take while layers of its disk are merged, beside the same without. Sourced by tests/bench/run.
latency() {
    note "latency: making the chain"
    "$genchain" --deep 20 --size "${DMCHAIN_BENCH_SIZE:-1G}" --seed 1 --out "$work/chain" >/dev/null
    note "latency: dm-chain and QEMU"
    DMCHAIN_CHAIN=$work/chain in_uml 6G -- "$here/latency-in-machine" "$rounds"
    rm -rf "$work/chain"
}
