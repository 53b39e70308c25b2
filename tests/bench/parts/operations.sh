# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# Merging, exporting and comparing chains at rest, beside qemu-img and cp. Sourced by tests/bench/run.

# What commands that change or copy a chain at rest take, each until its files are durable, on files of the machine's own
# file system, the page cache warm; when layers become one, until the others are removed. QEMU's: one round where it takes long.
# Then on a disk in memory, where the disk does not set the time: on ext4, and on XFS, where files share blocks.
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
            mv "$work/copy/top.qcow2" "$work/merged"
            fresh # before each: a disk that was just written to is slower
            cat "$work/merged" >/dev/null # compact wrote it past the page cache, from which it read the layers
            took cp "$work/merged" "$work/copy/cp" >>"$work/t-cp-qcow2"
            rm "$work/merged"
            fresh
            took "$DMCHAIN_BIN/dmchain" compact "$work/copy/top.qcow2" --flatten --keep-old --json >>"$work/t-copy"
            fresh
            took "$DMCHAIN_BIN/dmchain" export "$work/copy/top.qcow2" "$work/copy/raw" >>"$work/t-export"
            cmp "$work/copy/raw" "$work/raw"
            fresh
            took cp --sparse=never "$work/raw" "$work/copy/cp" >>"$work/t-cp-raw"
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
            operations_in_memory $fs "$depth"
        done
    done
    rm -rf "$work/chain"
}

# operations_in_memory ext4|xfs DEPTH: of $work/chain.
operations_in_memory() (
    fs=$1 depth=$2 chain=$work/chain
    dd if=/dev/zero of="$DMCHAIN_VM_MEMORY/disk" bs=1M count=4096 status=none # the first touch of memory is not measured
    case $fs in
    ext4) mkfs.ext4 -q -E nodiscard,lazy_itable_init=0,lazy_journal_init=0 "$DMCHAIN_VM_MEMORY/disk" ;;
    xfs) mkfs.xfs -q -K -m reflink=1 "$DMCHAIN_VM_MEMORY/disk" ;;
    esac
    results=$work
    work=$results/memory-disk # what took() syncs
    mkdir "$work"
    mount -o loop "$DMCHAIN_VM_MEMORY/disk" "$work" || die "this kernel has no $fs, or no loop devices"
    trap 'umount "$work"; rm -r "$work" "$DMCHAIN_VM_MEMORY/disk"' EXIT
    mkdir "$work/vm"
    cd "$work/vm" || exit
    fresh() {
        rm -rf ./*
        cp "$chain"/* .
        sync -f .
    }
    measured() { took sh -ec "$2" >>"$results/m-$1"; }
    rm -f "$results"/m-*
    for ((r = 0; r < rounds; r++)); do
        fresh
        measured flatten "'$DMCHAIN_BIN/dmchain' compact top.qcow2 --flatten --json"
        qemu-img check -q top.qcow2
        cat top.qcow2 >/dev/null
        measured cp 'cp --reflink=never top.qcow2 copy'
        fresh
        measured new-file "'$DMCHAIN_BIN/dmchain' compact top.qcow2 --flatten --by new-file --json"
        fresh
        measured export "'$DMCHAIN_BIN/dmchain' export top.qcow2 raw"
        measured cp-raw 'cp --reflink=never --sparse=never raw copy'
        [ "$depth" -lt 500 ] || [ "$r" = 0 ] || continue
        fresh
        measured qemu-convert 'qemu-img convert -W -m 16 -f qcow2 -O qcow2 top.qcow2 out; rm layer-* top.qcow2'
        fresh
        measured qemu-rebase "qemu-img rebase -f qcow2 -b '' top.qcow2; rm layer-*"
        fresh
        measured qemu-commit 'qemu-img commit -d -f qcow2 -b layer-0.qcow2 top.qcow2; rm top.qcow2 layer-[1-9]*'
    done
    cd /
    # shellcheck disable=SC2046
    jq -cn --arg fs "$fs" --argjson depth "$depth" $(for f in flatten cp new-file export cp-raw qemu-convert qemu-rebase qemu-commit; do
        echo --argjson "${f//-/_}" "$(median <"$results/m-$f")"; done) '
        {test: "operations-memory", fs: $fs, depth: $depth, flatten_s: $flatten, cp_s: $cp, new_file_s: $new_file, export_s: $export, cp_raw_s: $cp_raw,
            qemu_convert_s: $qemu_convert, qemu_rebase_s: $qemu_rebase, qemu_commit_s: $qemu_commit,
            of_best_qemu: ([$qemu_convert, $qemu_rebase, $qemu_commit] | min / $flatten * 100 | round / 100),
            copy_of_cp: ($cp / $new_file * 100 | round / 100), export_of_cp: ($cp_raw / $export * 100 | round / 100)}' >>"$results/results"
)
