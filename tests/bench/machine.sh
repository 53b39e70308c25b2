# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# What the write benchmarks have in common that run inside the machine "uml": disks in memory, the bio generator, results.
# Sourced after "set -euo pipefail".
export DM_DISABLE_UDEV=1
DMCHAIN=$DMCHAIN_BIN/dmchain
biogen=/sys/module/dmchain_biogen/parameters/run

dm() { dmsetup --noudevsync --noudevrules "$@"; }
say() { printf '%s\n' "$1" >>"$DMCHAIN_OUT/results"; }
median() { sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
sectors() { blockdev --getsz "$1"; }

# The machine's memory is a file of its host: whoever is first to touch a page of it pays for it. That is to be nobody who
# is measured: touches what is free. To be called when the large files are there.
touch_memory() {
    local folder free
    folder=$(mktemp -d)
    sync
    echo 3 >/proc/sys/vm/drop_caches
    free=$(awk '/^MemFree:/ { print $2 }' /proc/meminfo)
    mount -t tmpfs -o size=$((free / 10 * 9))k tmpfs "$folder"
    dd if=/dev/zero of="$folder/all" bs=1M status=none 2>/dev/null || true # until it is full
    umount "$folder"
    rmdir "$folder"
}

# null_disk NAME MIB BACKED: /dev/NAME; with BACKED 1 it keeps what is written, and gives back what is discarded.
null_disk() {
    local disk=/sys/kernel/config/nullb/$1 setting
    mountpoint -q /sys/kernel/config || mount -t configfs none /sys/kernel/config
    mkdir "$disk"
    for setting in "size=$2" queue_mode=2 irqmode=0 "memory_backed=$3" "discard=$3" power=1; do
        echo "${setting#*=}" >"$disk/${setting%=*}"
    done
}

# An ext4 with room for few large files on the disk $1, mounted at $2; what is deleted gives its memory back.
file_system() {
    mkfs.ext4 -q -N 65536 -J size=128 -E nodiscard,lazy_itable_init=0,lazy_journal_init=0 "$1"
    mount -o discard,noatime "$1" "$2"
}

# kernel DEVICE COUNT BYTES SEED DEPTH OP: 4 KiB bios from inside the kernel; the nanoseconds for each.
kernel() {
    echo "$1 $2 $3 $4 $5 4096 $6" >$biogen
    cat $biogen
}

# program DEVICE COUNT BYTES SEED DEPTH: 4 KiB random writes by fio, no place twice; the nanoseconds for each.
program() {
    fio --name=w --filename="$1" --rw=randwrite --bs=4k --direct=1 --ioengine=libaio --iodepth="$5" --size="$3" \
        --io_size=$(($2 * 4096)) --randseed="$4" --output-format=json | sed -n '/^{/,$p' | jq '1e9 / .jobs[0].write.iops'
}
