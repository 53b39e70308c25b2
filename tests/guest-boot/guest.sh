# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# What goes onto the disk of a guest that boots from it by itself: a kernel of Debian, an initrd that finds the file system, a user land
# that checks itself. For run, and for the benchmark of booting. After tests/vm/common.sh.

guest_boot=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)

# make_root ROOT WORK: the files, into the folder ROOT; WORK: a folder for what is needed on the way.
make_root() {
    local root=$1 work=$2 release image i
    release=$(qemu_release qemu-6.12)
    image=$CACHE/image-$release
    mkdir -p "$root"/{boot/extlinux,bin,sbin,proc,sys,dev,data} "$work/initrd/bin"
    cp "$image/boot/vmlinuz-$release" "$root/boot/vmlinuz"
    cp /bin/busybox "$root/bin/busybox"
    cp /bin/busybox "$work/initrd/bin/busybox"
    cp "$guest_boot/guest-init" "$root/sbin/init"
    cp "$guest_boot/guest-initrd" "$work/initrd/init"
    copy_modules "$image" "$release" "$work/initrd/modules" virtio_pci virtio_blk ext4
    (cd "$work/initrd" && find . | cpio -o -H newc --quiet) >"$root/boot/initrd"
    printf 'SERIAL 0\nDEFAULT guest\nPROMPT 0\nLABEL guest\nLINUX /boot/vmlinuz\nINITRD /boot/initrd\nAPPEND console=ttyS0 loglevel=4 panic=-1\n' \
        >"$root/boot/extlinux/extlinux.conf"
    for i in $(seq 60); do head -c $((RANDOM * 17)) /dev/urandom >"$root/data/file$i"; done
    (cd "$root" && find bin boot data sbin -type f -print0 | xargs -0 md5sum) >"$work/sums"
    mv "$work/sums" "$root/data/sums"
}
