# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# Which parts of a disk of 1 TiB are different at two of its 1000 snapshots: 'dmchain diff', beside 'qemu-img map' of the image on
# top, QEMU's only way to learn from tables alone what a chain has. At rest, page cache warm. Sourced by tests/bench/run.
diff() {
    local snapshots=${DMCHAIN_BENCH_LAYERS:-1000} from r parts
    note "diff: making the chain"
    "$genchain" --sparse-2t --depth $((snapshots + 1)) --size "${DMCHAIN_BENCH_SIZE:-1T}" --count 20000 --seed 1 --out "$work/chain" >/dev/null
    note "diff: comparing"
    for from in 0 $((snapshots / 2)) $((snapshots - 1)); do
        parts=$("$DMCHAIN_BIN/dmchain" diff "$work/chain/top.qcow2" --from $from --json | jq '.parts | length')
        for ((r = 0; r < rounds; r++)); do took "$DMCHAIN_BIN/dmchain" diff "$work/chain/top.qcow2" --from $from; done >"$work/times"
        say "$(jq -cn --argjson n "$snapshots" --argjson f $from --argjson s "$(median <"$work/times")" --argjson p "$parts" \
            '{test: "diff", snapshots: $n, from: $f, seconds: $s, parts: $p}')"
    done
    note "diff: QEMU"
    # Given up after a while.
    took limited "${DMCHAIN_BENCH_PATIENCE:-60}" qemu-img map --output=json -f qcow2 "$work/chain/top.qcow2" >"$work/times"
    say "$(jq -cn --argjson n "$snapshots" --argjson s "$(median <"$work/times")" --argjson g "$([ -e "$work/given-up" ] && echo true || echo false)" \
        '{test: "qemu-img-map", snapshots: $n, seconds: $s, given_up: $g}')"
    rm -rf "$work/chain"
}

# limited SECONDS COMMAND...: leaves $work/given-up if it had to be ended.
limited() {
    local status=0
    rm -f "$work/given-up"
    timeout "$@" || status=$?
    [ $status != 124 ] || touch "$work/given-up"
    [ $status = 0 ] || [ $status = 124 ]
}
