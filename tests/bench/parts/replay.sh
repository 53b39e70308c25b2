# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# Activation after a crash. Sourced by tests/bench/run.

replay() {
    note "replay: 1000 layers"
    rm -rf "$work/chain"
    "$genchain" --deep "${DMCHAIN_BENCH_LAYERS:-1000}" --size "${DMCHAIN_BENCH_SIZE:-4G}" --seed 1 --out "$work/chain" >/dev/null
    DMCHAIN_CHAIN=$work/chain in_uml 14G -- "$here/replay-in-machine" 3
    rm -rf "$work/chain"
}
