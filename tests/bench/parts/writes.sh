# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# First writes, overwrites, flushes beside dm-linear, dm-thin, dm-snapshot and QEMU. Sourced by tests/bench/run.

# 4 KiB random first writes to a fresh overlay on the chain in $work/chain, by QEMU on this machine itself, through its NBD
# export; and to a raw file that was written, its own measure. What is written lies in memory, the chain in the page cache.
qemu_writes() { # LAYERS BYTES
    local socket=$work/nbd image=$work/memory/image kind depth pid i ns format create
    local -A raw
    cat "$work"/chain/*.qcow2 >/dev/null
    for kind in raw plain subclusters; do
        for depth in 1 32; do
            format=qcow2
            create=(qemu-img create -q -u -f qcow2 -b "$work/chain/top.qcow2" -F qcow2)
            case $kind in
            raw) format=raw && create=(true) && head -c "$2" /dev/zero >"$image" ;;
            subclusters) create+=(-o extended_l2=on) ;;
            esac
            "${create[@]}" "$image" "$2"
            qemu-nbd -f $format -k "$socket" -t -e 4 --cache=writeback "$image" &
            pid=$!
            for ((i = 0; i < 600; i++)); do [ -S "$socket" ] && break; sleep 0.1; done
            ns=$(fio --name=w --ioengine=nbd --uri="nbd+unix:///?socket=$socket" --rw=randwrite --bs=4k --iodepth=$depth --time_based \
                --runtime="${DMCHAIN_BENCH_SECONDS:-5}" --randseed=1 --output-format=json | sed -n '/^{/,$p' | jq '1e9 / .jobs[0].write.iops | round')
            kill $pid
            wait $pid 2>/dev/null || true
            rm -f "$image" "$socket"
            [ $kind != raw ] || raw[$depth]=$ns
            say "$(jq -cn --arg k $kind --argjson q $depth --argjson n "$1" --argjson ns "$ns" --argjson raw "${raw[$depth]}" \
                '{test: "qemu-first", overlay: $k, depth: $q, layers: $n, ns: $ns, of_raw: ($raw / $ns * 1000 | round / 1000)}')"
        done
    done
}

writes() {
    local layers=${DMCHAIN_BENCH_LAYERS:-500}
    note "$layers layers: making the chain"
    rm -rf "$work/chain"
    "$genchain" --deep "$layers" --size "${DMCHAIN_BENCH_SIZE:-4G}" --seed 1 --out "$work/chain" >/dev/null
    note "writes: QEMU"
    qemu_writes "$layers" "$(qemu-img info -f qcow2 --output=json "$work/chain/top.qcow2" | jq '."virtual-size"')"
    note "writes: the target and its peers"
    DMCHAIN_CHAIN=$work/chain in_uml 14G -- "$here/writes-in-machine" $(((rounds + 1) / 2))
    rm -rf "$work/chain"
}
