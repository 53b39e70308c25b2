# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# Making and opening an index. Sourced by tests/bench/run.

# Time and memory of building the index, this machine's page cache warm.
build_one() { # name image
    local i
    for ((i = 0; i < rounds; i++)); do
        /usr/bin/time -f '%e %M' -o "$work/time" "$DMCHAIN_BIN/dmchain" index "$2" --chain "$work/x.chain" >/dev/null
        cat "$work/time"
    done >"$work/times"
    cut -d' ' -f1 "$work/times" | median >"$work/seconds"
    cut -d' ' -f2 "$work/times" | median >"$work/kib"
}
build() {
    note "1000 layers: building"
    "$genchain" --deep 1000 --size 4G --seed 1 --out "$work/chain" >/dev/null
    build_one deep "$work/chain/top.qcow2"
    say "{\"test\": \"build\", \"depth\": 1000, \"seconds\": $(cat "$work/seconds"), \"rss_bytes\": $(($(cat "$work/kib") * 1024))}"
    rm -rf "$work/chain"
    note "a full disk of 2 TiB: building"
    "$genchain" --in-order 2T --out "$work/ordered" >/dev/null
    local i
    for ((i = 0; i < rounds; i++)); do "$DMCHAIN_BIN/tests/bench/readl2" "$work/ordered/top.qcow2"; done >"$work/l2"
    build_one huge "$work/ordered/top.qcow2"
    say "$(awk -v s="$(cat "$work/seconds")" -v m="$(cat "$work/kib")" -v l="$(cut -d' ' -f1 "$work/l2" | median)" -v b="$(head -n 1 "$work/l2" | cut -d' ' -f2)" 'BEGIN {
        printf "{\"test\": \"build-2t\", \"seconds\": %.3f, \"rss_bytes\": %d, \"l2_bytes\": %d, \"read_l2_seconds\": %.3f, \"of_read_speed\": %.2f}", s, m * 1024, b, l, l / s }')"
    rm -rf "$work/ordered"
}
