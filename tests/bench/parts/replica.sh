# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# What stored memory of guests takes, and how long storing and restoring takes, beside cp of as many bytes to the same file system. Guests of
# 1 GiB with Debian's kernels, as those of the published figures: about 300 MiB of files in the cache, 158 or 80 MiB of a process. Sourced by
# tests/bench/run.

# guest MACHINE MEMORY-MIB PROCESS-MIB FILES-MIB: $work/memory and $work/top.qcow2, with the disk of that moment.
bench_guest() {
    local release holder=$DMCHAIN_BIN/tests/guest-memory/holder mem=$2 process_mib=$3 more_mib=$(($4 - 60))
    release=$(qemu_release "$1")
    rm -rf "$work"/{disk.d,initrd*,base.raw,top.qcow2,memory}
    make_guest "$release"
    qemu-img create -q -f qcow2 -b base.raw -F raw "$work/top.qcow2"
    start_guest "$release" "$work/top.qcow2"
    wait_for "$work/console" 'guest: ready'
    stop_guest "$work/memory"
}

# Files are emptied here, and removed with $work: ext4 without a journal looks, for each new file, past all inodes that were freed in the last
# minute, which took a third of the time of both sides, more in each round.
set_aside() { # PATH...
    local p
    for p; do
        [ -e "$p" ] || continue
        find "$p" -type f -exec truncate -s 0 {} +
        mv "$p" "$(mktemp -d "$work/aside.XXXXXX")"
    done
}
fresh_folders() {
    set_aside "$work"/{a,b,c}
    mkdir "$work"/{a,b,c}
    sync -f "$work"
}
store_memory() { "$DMCHAIN_BIN/dmchain" replicate --memory "$work/memory" --to "dir:$work/a,$work/b,$work/c" --name one "$@"; }
# The most memory that a program takes, in bytes: no function of this shell.
memory_of() {
    "$@" >"$work/said" 2>&1 &
    local pid=$! most=0 now
    while now=$(awk '/^VmHWM:/ { print $2 * 1024 }' /proc/$pid/status 2>/dev/null) && [ -n "$now" ]; do
        most=$now
        sleep 0.005
    done
    wait $pid || die "$*: $(cat "$work/said")"
    echo "$most"
}

# saving MACHINE: what is stored, by class and in all.
saving() {
    local way extra packed
    printf 'compress = zstd\n' >"$work/zstd"
    for way in memory memory-and-disk; do
        extra=()
        [ $way = memory ] || extra=(--disk "$work/top.qcow2")
        fresh_folders
        store_memory "${extra[@]}" --dry-run --json >"$work/dry"
        store_memory "${extra[@]}" --policy "$work/zstd" --json >"$work/packed"
        packed=$(jq .written_bytes "$work/packed")
        jq -c --arg m "$1" --arg w $way --argjson p "$packed" '{test: "saving", guest: $m, way: $w, kernel, stored_bytes, compressed_bytes: $p,
            all_copied_bytes, nonzero_copied_bytes, classes}' "$work/dry" >"$work/row"
        say "$(cat "$work/row")"
    done
}

# took COMMAND, with as much free memory at hand as it is going to fill: that of a virtual machine is often with its host, and then costs more to
# get than the copying.
took_warm() {
    head -c 2G /dev/zero >"$work/warm"
    sync -f "$work"
    truncate -s 0 "$work/warm"
    took "$@"
}

# speed MACHINE: medians, in turn. cp reads and writes on the same file system.
speed() {
    local r
    rm -f "$work"/t-*
    for ((r = 0; r < rounds; r++)); do
        "$DMCHAIN_BIN/dmchain" guest-map "$work/memory" >"$work/said" # the page cache
        took "$DMCHAIN_BIN/dmchain" guest-map "$work/memory" >>"$work/t-classify"
        fresh_folders
        took_warm store_memory --disk "$work/top.qcow2" >>"$work/t-replicate-disk"
        fresh_folders
        took_warm store_memory >>"$work/t-replicate"
        mkdir "$work/copy"
        # As much as was written, in the same sizes; from files that are in the page cache.
        took_warm cp -r "$work/a" "$work/b" "$work/c" "$work/copy" >>"$work/t-cp"
        set_aside "$work/copy"
        mkdir "$work/copy"
        took_warm cp "$work/memory" "$work/copy/1" >>"$work/t-cp-one"
        took_warm sh -c 'cp "$1/memory" "$1/copy/2" && cp "$1/memory" "$1/copy/3"' - "$work" >"$work/two"
        paste "$work/two" <(tail -n 1 "$work/t-cp-one") | awk '{ print $1 + $2 }' >>"$work/t-cp-three"
        took_warm "$DMCHAIN_BIN/dmchain" restore one --from "dir:$work/a,$work/b,$work/c" --memory "$work/again" >>"$work/t-restore"
        set_aside "$work/again" "$work/copy"
    done
    say_speeds "$1" "$(stat -c %s "$work/memory")" classify replicate replicate-disk cp cp-one cp-three restore
}

# disk_speed MACHINE: the same for the layers of the disk, a base and what was written since. The file system in it was just made: what is free
# has not been written, either.
disk_speed() {
    local r
    rm -f "$work"/t-*
    for ((r = 0; r < rounds; r++)); do
        fresh_folders
        cat "$work"/{base.raw,top.qcow2} >/dev/null
        took_warm "$DMCHAIN_BIN/dmchain" replicate "$work/top.qcow2" --to "dir:$work/a,$work/b,$work/c" --name disk >>"$work/t-disk"
        mkdir -p "$work"/copy/{1,2,3}
        took_warm cp -r "$work/a" "$work/b" "$work/c" "$work/copy" >>"$work/t-disk-cp"
        # shellcheck disable=SC2016
        took_warm sh -c 'for n in 1 2 3; do cp "$1/base.raw" "$1/top.qcow2" "$1/copy/$n" || exit; done' - "$work" >>"$work/t-disk-cp-three"
        set_aside "$work/copy"
        took_warm "$DMCHAIN_BIN/dmchain" restore disk --from "dir:$work/a,$work/b,$work/c" --layers "$work/again" >>"$work/t-disk-restore"
        set_aside "$work/again"
        mkdir "$work/copy"
        took_warm cp "$work/base.raw" "$work/top.qcow2" "$work/copy" >>"$work/t-disk-cp-one"
        set_aside "$work/copy"
    done
    say_speeds "$1" "$(du -B 1 "$work"/{base.raw,top.qcow2} | awk '{ n += $1 } END { print n }')" disk disk-cp disk-cp-three disk-restore disk-cp-one
}

# say_speeds MACHINE BYTES WHAT...: BYTES: of what was stored, in its files; what is in the folders is counted.
say_speeds() {
    local machine=$1 file_bytes=$2 bytes what
    shift 2
    bytes=$(du -sb "$work"/{a,b,c} | awk '{ n += $1 } END { print n }')
    for what; do
        say "$(jq -cn --arg m "$machine" --arg t "$what" --argjson s "$(median <"$work/t-$what")" --argjson b "$bytes" --argjson f "$file_bytes" \
            '{test: "speed", guest: $m, what: $t, seconds: $s, written_bytes: $b, file_bytes: $f}')"
    done
}

replica() (
    # shellcheck source=/dev/null
    . "$top/tests/guest-memory/guest.sh"
    results=$work/results work=$work/guest
    say() { printf '%s\n' "$1" >>"$results"; }
    mkdir "$work"
    trap end_guest EXIT
    note 'replica: 6.1'
    bench_guest qemu-6.1 1024 158 297
    saving qemu-6.1
    note 'replica: 6.12'
    bench_guest qemu-6.12 1024 80 396
    saving qemu-6.12
    speed qemu-6.12
    disk_speed qemu-6.12
    note 'replica: 8 GiB'
    bench_guest qemu-6.12 8192 80 396
    fresh_folders
    say "$(jq -cn --argjson b "$(memory_of "$DMCHAIN_BIN/dmchain" guest-map "$work/memory")" \
        --argjson r "$(memory_of "$DMCHAIN_BIN/dmchain" replicate --memory "$work/memory" --to "dir:$work/a,$work/b,$work/c" --name one)" '{test: "memory", memory_gib: 8, guest_map_rss_bytes: $b, replicate_rss_bytes: $r}')"
)
