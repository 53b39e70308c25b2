# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# A guest with a stock Debian kernel and known contents, for tests/guest-memory. Sourced after tests/vm/common.sh, with $work, a
# folder for its files, and $holder, the program holder.

guest_pid=''
end_guest() {
    [ -z "$guest_pid" ] || kill -KILL "$guest_pid" 2>/dev/null || true
    guest_pid=''
}

# make_guest RELEASE: its initrd, and its disk base.raw. $more_mib: of files that it reads, besides 60 MiB or so.
make_guest() {
    local image=$CACHE/image-$1 root=$work/initrd.d
    mkdir -p "$root/bin" "$work/disk.d/data" "$work/disk.d/bin"
    cp /bin/busybox "$root/bin/"
    cp "$TOP/tests/guest-memory/guest-init" "$root/init"
    copy_modules "$image" "$1" "$root/modules" virtio_pci virtio_blk ext4 qemu_fw_cfg
    (cd "$root" && find . | cpio -o -H newc --quiet) >"$work/initrd"
    cp "$holder" "$work/disk.d/bin/holder"
    head -c 24M /dev/urandom >"$work/disk.d/data/mapped"
    for i in $(seq 40); do head -c $((RANDOM * 60)) /dev/urandom >"$work/disk.d/data/file$i"; done
    head -c "${more_mib:-0}M" /dev/urandom >"$work/disk.d/data/more"
    (cd "$work/disk.d" && find bin data -type f -print0 | xargs -0 md5sum) >"$work/sums"
    mv "$work/sums" "$work/disk.d/sums"
    truncate -s $((256 + ${more_mib:-0} * 2))M "$work/base.raw"
    mkfs.ext4 -q -F -b 4096 -d "$work/disk.d" -E lazy_itable_init=0,nodiscard "$work/base.raw"
}

# start_guest RELEASE DISK [OPTION]...: DISK is a qcow2 file. $mem: MiB of memory, $process_mib: of these, of a process. Its words go to $work/console, what the monitor says to $work/said.
start_guest() {
    local release=$1 disk=$2
    shift 2
    rm -f "$work"/{monitor,serial}.{in,out}
    mkfifo "$work"/{monitor,serial}.{in,out}
    : >"$work/console"
    : >"$work/said"
    cat "$work/serial.out" >"$work/console" 9>&- &
    cat "$work/monitor.out" >"$work/said" 9>&- &
    setpriv --pdeathsig KILL qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m "${mem:-384}" -nodefaults \
        -display none -no-reboot -chardev "pipe,id=serial,path=$work/serial" -serial chardev:serial \
        -chardev "pipe,id=monitor,path=$work/monitor" -mon chardev=monitor,mode=readline -device vmcoreinfo \
        -kernel "$CACHE/image-$release/boot/vmlinuz-$release" -initrd "$work/initrd" \
        -append "console=ttyS0 loglevel=4 panic=-1 oops=panic holder=${process_mib:-48}" \
        -drive "file=$disk,if=none,id=disk0,format=qcow2,cache=unsafe" -device virtio-blk-pci,drive=disk0 "$@" \
        </dev/null >"$work/qemu.log" 2>&1 9>&- &
    guest_pid=$!
}

# wait_for FILE TEXT: until the guest, or its monitor, has said so.
wait_for() {
    local i
    for ((i = 0; i < 1200; i++)); do
        grep -q "$2" "$1" && return
        kill -0 "$guest_pid" 2>/dev/null || break
        sleep 0.1
    done
    grep -q "$2" "$1" || die "the guest does not say '$2': $(cat "$work/qemu.log"; tail -n 30 "$work/console")"
}

monitor() { echo "$*" >"$work/monitor.in"; }

# resume_guest: once it has all of its memory (-incoming).
resume_guest() {
    local i
    for ((i = 0; i < 200; i++)); do
        monitor 'info status'
        sleep 0.2
        ! grep -q 'VM status: running' "$work/said" || return 0
        kill -0 "$guest_pid" 2>/dev/null || break
        [[ $(grep 'VM status' "$work/said" | tail -n 1) == *inmigrate* ]] || monitor cont
    done
    die "the guest does not go on: $(cat "$work/qemu.log"; tail -n 5 "$work/said")"
}

# stop_guest STREAM [CORE SNAPSHOT]: what its memory holds, as a migration stream; as an ELF core, and as a state in the disk's image, of the
# same moment. It is gone then.
stop_guest() {
    monitor stop
    if [ $# -gt 1 ]; then
        monitor "dump-guest-memory $2"
        monitor "savevm $3"
    fi
    monitor "migrate \"exec:cat >'$1'\""
    monitor 'info migrate'
    wait_for "$work/said" 'Migration status: completed'
    monitor quit
    wait "$guest_pid" || true
    guest_pid=''
}

# go_on RELEASE OVERLAY STREAM-OPTION...: the guest goes on with a new image on its disk, $top, and looks at what it has.
go_on() {
    local wrong
    qemu-img create -q -f qcow2 -b "$top" -F qcow2 "$work/$2"
    start_guest "$1" "$work/$2" "${@:3}"
    resume_guest
    echo check >"$work/serial.in"
    wait_for "$work/console" 'guest: done'
    wait "$guest_pid" || true
    guest_pid=''
    # What the kernel says of its end may be cut off with the machine.
    wrong=$(tr -d '\r' <"$work/console" | sed '/^guest: done$/q' | grep -vxE 'guest: (check|done)|' || true)
    [ -z "$wrong" ] || die "the guest that was restored says: $wrong"
}
