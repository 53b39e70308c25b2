# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# What a snapshot takes and writes, beside dm-thin and QEMU. Sourced by tests/bench/run.

# What a snapshot takes and writes in QEMU, on this machine itself: a new overlay is made and put on top of the chain in
# $work/chain, whose own overlay was written to through its NBD export, and flushed. Overlays lie in memory.
qemu_snapshot() { # GIB LAYERS
    local overlay=$work/memory/overlay export="nbd+unix:///w?socket=$work/nbd" r before t0 t1
    qemu-img create -q -u -f qcow2 -b "$work/chain/top.qcow2" -F qcow2 "$overlay.0" "$1G"
    start_daemon --nbd-server "addr.type=unix,addr.path=$work/nbd"
    node() { # NUMBER MORE
        ask blockdev-add '"driver": "qcow2", "node-name": "w'"$1"'", "file": {"driver": "file", "filename": "'"$overlay.$1"'"}'"$2"
    }
    written() { awk '/^wchar/ { print $2 }' "/proc/$daemon_pid/io"; }
    node 0 ''
    ask block-export-add '"type": "nbd", "id": "w", "node-name": "w0", "name": "w", "writable": true'
    rm -f "$work/qemu-ms" "$work/qemu-bytes"
    for ((r = 1; r <= rounds; r++)); do
        fio --name=w --ioengine=nbd --uri="$export" --rw=randwrite --bs=4k --iodepth=16 --number_ios=1000 --end_fsync=1 --size="$1G" \
            --randseed=$r --minimal >/dev/null
        before=$(written) t0=$(date +%s%N)
        qemu-img create -q -u -f qcow2 -b "$overlay.$((r - 1))" -F qcow2 "$overlay.$r" "$1G"
        node "$r" ', "backing": null'
        ask blockdev-snapshot '"node": "w'$((r - 1))'", "overlay": "w'$r'"'
        t1=$(date +%s%N)
        echo $(((t1 - t0) / 10000)) | awk '{ print $1 / 100 }' >>"$work/qemu-ms"
        echo $(($(written) - before + $(stat -c %s "$overlay.$r"))) >>"$work/qemu-bytes"
    done
    stop_daemon
    rm "$overlay".*
    say "$(jq -cn --argjson g "$1" --argjson n "$2" --argjson ms "$(median <"$work/qemu-ms")" --argjson b "$(median <"$work/qemu-bytes")" \
        '{test: "qemu-snapshot", disk_gib: $g, depth: $n, ms: $ms, bytes: $b}')"
}

snapshot() {
    local gib depth
    for gib in 50 200 2048; do
        for depth in 1 "${DMCHAIN_BENCH_LAYERS:-1000}"; do
            note "snapshot: $gib GiB, $depth layers"
            rm -rf "$work/chain"
            "$genchain" --sparse-2t --depth "$depth" --size "${gib}G" --count 1000 --seed 1 --out "$work/chain" >/dev/null
            qemu_snapshot "$gib" "$depth"
            DMCHAIN_CHAIN=$work/chain in_uml 3G -- "$here/snapshot-in-machine" "$gib" "$rounds"
        done
    done
    rm -rf "$work/chain"
}
