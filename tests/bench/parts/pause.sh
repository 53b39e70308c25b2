# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# How long writes wait for a snapshot while a program writes as fast as it can, beside dm-thin. Sourced by tests/bench/run.
pause() {
    rm -rf "$work/chain"
    "$genchain" --deep 10 --size 1G --seed 1 --out "$work/chain" >/dev/null
    DMCHAIN_CHAIN=$work/chain in_uml 8G -- "$here/pause-in-machine" "${DMCHAIN_BENCH_SNAPSHOTS:-1000}"
    rm -rf "$work/chain"
}
