# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# Chains of 1 to 1000 layers beside loop devices and QEMU. Sourced by tests/bench/run.

# QEMU on the chain in $work/chain, on this machine itself (not under UML, where its system calls would cost more):
# first byte, then random and sequential reads through its NBD export, and memory.
qemu() { # DEPTH
    local depth=$1 socket=$work/nbd pid rss t0 t1 i first
    for i in 1 2 3; do
        t0=$(date +%s%N)
        (cd "$work/chain" && qemu-io -r -f qcow2 -c "read -q 0 4k" top.qcow2 >/dev/null)
        t1=$(date +%s%N)
        echo $(((t1 - t0) / 1000))
    done >"$work/first"
    first=$(median <"$work/first")
    (cd "$work/chain" && exec qemu-nbd -r -f qcow2 -k "$socket" -t -e 4 --cache=none --aio=native top.qcow2) &
    pid=$!
    for ((i = 0; i < 600; i++)); do [ -S "$socket" ] && break; sleep 0.1; done
    job() { # name options... : IOPS
        fio --name="$1" --ioengine=nbd --uri="nbd+unix:///?socket=$socket" --time_based --runtime=8 --readonly \
            --output-format=json "${@:2}" | sed -n '/^{/,$p' | jq '.jobs[0].read.iops'
    }
    local q1 q32 seq
    q1=$(job q1 --rw=randread --bs=4k --iodepth=1)
    q32=$(job q32 --rw=randread --bs=4k --iodepth=32)
    seq=$(job seq --rw=read --bs=4m --iodepth=2)
    rss=$(awk '/^VmHWM:/ { print $2 * 1024 }' "/proc/$pid/status")
    kill $pid
    wait $pid 2>/dev/null || true
    say "$(awk -v d="$depth" -v a="$q1" -v b="$q32" -v c="$seq" -v r="$rss" -v f="$first" 'BEGIN {
        printf "{\"test\": \"qemu\", \"depth\": %d, \"random_4k_qd1_per_s\": %.0f, \"random_4k_qd32_per_s\": %.0f, \"sequential_4m_MBps\": %.1f, \"rss_bytes\": %d, \"first_byte_ms\": %.1f}",
            d, a, b, c * 4.194304, r, f / 1000 }')"
}

depth() {
    local depth
    for depth in ${DMCHAIN_BENCH_DEPTHS:-1 10 100 500 1000}; do
        note "depth $depth: making the chain"
        rm -rf "$work/chain"
        "$genchain" --deep "$depth" --size 4G --seed 1 --out "$work/chain" --raw "$work/chain/raw" >/dev/null
        note "depth $depth: QEMU"
        qemu "$depth"
        note "depth $depth: the target and the loop device"
        DMCHAIN_CHAIN=$work/chain in_uml 18G -- "$here/deep-in-machine" "$depth" "$rounds" ext4
        case $depth in 1 | 1000) DMCHAIN_CHAIN=$work/chain in_uml 18G -- "$here/deep-in-machine" "$depth" "$rounds" xfs ;; esac
    done
    rm -rf "$work/chain"
    note "a disk of 50 GiB written in order"
    "$genchain" --in-order 50G --out "$work/ordered" >/dev/null
    DMCHAIN_IMAGE=$work/ordered/top.qcow2 in_uml 2G -- "$here/ordered-in-machine"
    rm -rf "$work/ordered"
}
