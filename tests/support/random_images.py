# SPDX-License-Identifier: GPL-2.0-or-later
"""What the random tests of chains share: tests/compact/random, tests/target/sequences."""
import json


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


class Kills:
    """Runs commands of dmchain, which are killed at random (with @on) before one of the things that they do to files and devices.

    @dmchain: the program. @run(*words, ok): runs a command, whose exit status is one of @ok. @steps: the list of what was done.
    @check(what, **context): after each kill, with what attempt() was called with. @fail(text). rng has to be set."""
    CHANGES = "pwrite64,write,fsync,fdatasync,linkat,link,rename,renameat,renameat2,unlink,unlinkat,ftruncate,fallocate,ioctl,mkdir,rmdir"
    KILLED = -9  # exit status

    def __init__(self, on, dmchain, run, steps, check, fail):
        self.on, self.dmchain, self.run, self.steps, self.check, self.fail = on, dmchain, run, steps, check, fail
        self.rng = None
        self.killed = self.given_up = 0

    def attempt(self, *words, ok=(0,), **context):
        """The command's result, or None: it was killed."""
        if not self.on or self.rng.random() < 0.3:
            return self.run(self.dmchain, *words, ok=ok)
        when = self.rng.randrange(1, self.rng.choice((3, 8, 20, 60)))
        strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={self.CHANGES}", "-e",
                  f"inject={self.CHANGES}:signal=SIGKILL:when={when}"]
        done = self.run(*strace, self.dmchain, *words, ok=(*ok, self.KILLED))
        if done.returncode != self.KILLED:
            return done
        self.killed += 1
        self.steps.append(f"    killed before its change {when}: {' '.join(words)}")
        self.check(f"killed: {' '.join(words)}", **context)
        return None

    def again(self, *words):
        """A command that is run again if it was killed."""
        return self.attempt(*words) or self.run(self.dmchain, *words)

    def gives_up(self, *words):
        """Whether what was killed is given up; it may be too late for that."""
        done = self.rng.random() < 0.4 and not self.run(self.dmchain, *words, "--abort", ok=(0, 1)).returncode
        if done:
            self.given_up += 1
            self.steps.append("    given up")
        return done

    def is_stored(self, name, store):
        """Whether a replicate that was killed had ended."""
        done = self.run(self.dmchain, "snapshots", store, "--json", ok=(0, 1))
        if done.returncode:
            if "is no store of dmchain" not in done.stderr:  # the first one was killed
                self.fail(done.stderr)
            return False
        return name in (r["name"] for r in json.loads(done.stdout)["snapshots"])

    def count(self):
        return f"; {self.killed} killed, {self.given_up} given up" if self.on else ""


def differs(a, b):
    """Where."""
    if len(a) != len(b):
        return f"{len(a)} bytes instead of {len(b)}"
    return f"other data from byte {next(i for i in range(0, len(a), 512) if a[i:i + 512] != b[i:i + 512])} on"
