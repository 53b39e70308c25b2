# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# Merging, exporting and comparing chains at rest, beside qemu-img and cp. Sourced by tests/bench/run.

# What commands that change or copy a chain at rest take, each until its files are durable, on files of the machine's own
# file system, the page cache warm; when layers become one, until the others are removed. QEMU's: one round where it takes long.
# Then in a machine on a disk in memory, where the disk does not set the time: on ext4, and on XFS, where files share blocks.
operations() {
    local depth i fs
    fresh() { # the chain again
        rm -rf "$work/copy"
        cp -r "$work/chain" "$work/copy"
        sync -f "$work"
    }
    for depth in ${DMCHAIN_BENCH_DEPTHS:-10 100 500}; do
        note "operations: depth $depth"
        rm -rf "$work/chain"
        "$genchain" --deep "$depth" --size 1G --seed 1 --out "$work/chain" --raw "$work/raw" >/dev/null
        for f in flatten copy convert rebase commit cp-qcow2 export cp-raw delete diff; do : >"$work/t-$f"; done
        for ((i = 0; i < rounds; i++)); do
            fresh
            took "$DMCHAIN_BIN/dmchain" compact "$work/copy/top.qcow2" --flatten --json >>"$work/t-flatten"
            cat "$work/copy/top.qcow2" >/dev/null # compact wrote it past the page cache, from which it read the layers
            took cp "$work/copy/top.qcow2" "$work/copy/cp" >>"$work/t-cp-qcow2"
            fresh
            took "$DMCHAIN_BIN/dmchain" compact "$work/copy/top.qcow2" --flatten --keep-old --json >>"$work/t-copy"
            fresh
            took "$DMCHAIN_BIN/dmchain" export "$work/copy/top.qcow2" "$work/copy/raw" >>"$work/t-export"
            cmp "$work/copy/raw" "$work/raw"
            took cp --sparse=never "$work/raw" "$work/copy/cp" >>"$work/t-cp-raw"
            rm "$work/copy/cp"
            took "$DMCHAIN_BIN/dmchain" diff "$work/copy/top.qcow2" --from 0 --json >>"$work/t-diff"
            took "$DMCHAIN_BIN/dmchain" compact "$work/copy/top.qcow2" --delete $((depth / 2)) --json >>"$work/t-delete"
            [ "$depth" -lt 500 ] || [ $i = 0 ] || continue
            fresh
            took sh -ec "cd '$work/copy'; qemu-img convert -W -m 16 -f qcow2 -O qcow2 top.qcow2 out; rm layer-* top.qcow2" >>"$work/t-convert"
            fresh
            took sh -ec "cd '$work/copy'; qemu-img rebase -f qcow2 -b '' top.qcow2; rm layer-*" >>"$work/t-rebase"
            fresh
            took sh -ec "cd '$work/copy'; qemu-img commit -d -f qcow2 -b layer-0.qcow2 top.qcow2; rm top.qcow2 layer-[1-9]*" >>"$work/t-commit"
        done
        # shellcheck disable=SC2046
        say "$(jq -cn --argjson depth "$depth" $(for f in flatten copy convert rebase commit cp-qcow2 export cp-raw delete diff; do
            echo --argjson "${f//-/_}" "$(median <"$work/t-$f")"; done) '
            {test: "operations", depth: $depth, flatten_s: $flatten, qemu_convert_s: $convert, qemu_rebase_s: $rebase, qemu_commit_s: $commit,
                of_best_qemu: ([$convert, $rebase, $commit] | min / $flatten * 100 | round / 100), copy_s: $copy, cp_qcow2_s: $cp_qcow2,
                copy_of_cp: ($cp_qcow2 / $copy * 100 | round / 100), export_s: $export, cp_raw_s: $cp_raw,
                export_of_cp: ($cp_raw / $export * 100 | round / 100), delete_one_s: $delete, diff_s: $diff}')"
    done
    rm -rf "$work/copy" "$work/raw"
    for depth in ${DMCHAIN_BENCH_DEPTHS:-10 100 500}; do
        rm -rf "$work/chain"
        "$genchain" --deep "$depth" --size 512M --seed 1 --out "$work/chain" >/dev/null
        for fs in ext4 xfs; do
            note "operations: depth $depth, $fs in memory"
            DMCHAIN_CHAIN=$work/chain in_uml 6G -- "$here/operations-in-machine" $fs "$depth" "$rounds"
        done
    done
    rm -rf "$work/chain"
}
