# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# Merging layers of a device in use, beside QEMU's block jobs on the same chain, in the same machine. Sourced by tests/bench/run.
live() {
    local depth
    for depth in ${DMCHAIN_BENCH_DEPTHS:-10 100 500}; do
        note "live: depth $depth"
        rm -rf "$work/chain"
        "$genchain" --deep "$depth" --size "${DMCHAIN_BENCH_SIZE:-512M}" --seed 1 --out "$work/chain" >/dev/null
        DMCHAIN_CHAIN=$work/chain in_uml 5G -- "$here/live-in-machine" "$depth" "$rounds"
    done
    rm -rf "$work/chain"
}
