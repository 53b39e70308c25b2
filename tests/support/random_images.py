# SPDX-License-Identifier: GPL-2.0-or-later
"""What the random tests of chains share: tests/compact/random, tests/target/sequences."""


def piece(rng, size):
    """A part of a disk of @size bytes: where it begins, and how long it is, in bytes."""
    at = rng.randrange(size // 512)
    return at * 512, min(rng.choice((1, 7, 8, 128, 200, 700)), size // 512 - at) * 512


def qemu_writes(rng, size):
    """Options for qemu-io, which writes to an image in all ways that it has. It compresses whole clusters only, and some forms not at all."""
    commands = []
    for _ in range(rng.randrange(8)):
        at, n = piece(rng, size)
        way = rng.choice(("write", "write", "write", "zero", "unmap", "discard", "pack"))
        if way == "pack":
            at, n = at // 65536 * 65536, min(65536, size - at // 65536 * 65536)
        commands += ["-c", {"write": "write -P {0} {1} {2}", "zero": "write -z {1} {2}", "unmap": "write -z -u {1} {2}", "discard": "discard {1} {2}",
                            "pack": "write -c -P {0} {1} {2}"}[way].format(rng.randrange(1, 256), at, n)]
    return commands


# What commands do to files and devices.
CHANGES = "pwrite64,write,fsync,fdatasync,linkat,link,rename,renameat,renameat2,unlink,unlinkat,ftruncate,fallocate,ioctl,mkdir,rmdir"
KILLED = -9  # its exit status


def kill(when):
    """Words before a command, which is killed before its @when-th change."""
    return ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={CHANGES}", "-e", f"inject={CHANGES}:signal=SIGKILL:when={when}"]


def differs(a, b):
    """Where."""
    if len(a) != len(b):
        return f"{len(a)} bytes instead of {len(b)}"
    return f"other data from byte {next(i for i in range(0, len(a), 512) if a[i:i + 512] != b[i:i + 512])} on"
