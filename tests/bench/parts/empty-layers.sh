# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# A thousand layers of which one has the data. Sourced by tests/bench/run.

# The same data in one layer of a thousand: what depth costs by itself, without a thousand files to read from.
empty-layers() {
    local below=top i
    "$genchain" --deep 1 --size 4G --seed 1 --out "$work/chain" --raw "$work/chain/raw" >/dev/null
    for ((i = 1; i < 1000; i++)); do
        qemu-img create -q -u -f qcow2 -F qcow2 -b $below.qcow2 "$work/chain/empty.$i.qcow2" 4G
        below=empty.$i
    done
    DMCHAIN_CHAIN=$work/chain in_uml 18G -- "$here/deep-in-machine" 1 "$rounds" ext4
    rm -rf "$work/chain"
}
